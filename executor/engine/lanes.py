"""A claimed lane: what waits is read, `executor.workflow.lanes` decides, one statement carries it out.

The lane's rules are those of the newest request's version of the workflow; each run is of the version that its own
delivery was routed to. A lane knows no attempts that run out: what keeps it from being carried out (a version that this
process cannot use, say) is tried again, with a delay that grows, and nothing in it is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from events import faults, lanes
from events.database import Database
from events.effects import NewRun, StartRequest
from events.errors import LeaseLost
from events.ids import derived_id
from events.lanes import Active, Outcome, Waiting
from events.types import WorkItem
from executor.engine.workflows import Workflows
from executor.workflow.expressions import ExpressionError
from executor.workflow.facts import RunStarted, encode
from executor.workflow.graph import Graph
from executor.workflow.lanes import PAGE, Lane, Pending, Step, step
from executor.workflow.matching import key_of
from executor.workflow.signals import Cancel
from executor.workflow.signals import encode as encode_signal
from executor.workflow.triggers import PassedOver


class Place(msgspec.Struct, frozen=True):
    """Where a delivery waits. `key`: for people; None where a workflow has one lane."""

    lane_id: UUID
    key: str | None


def place(graph: Graph, event: Mapping[str, Any], workspace_id: int) -> Place | PassedOver:
    """The lane of a delivery; why there is none where its key cannot be computed."""
    if graph.key is None:
        return Place(lane_id(workspace_id, graph.name, b""), None)
    try:
        value = graph.key.evaluate({"event": event})
    except ExpressionError as error:
        return PassedOver(graph.name, f"key failed: {error}"[:1000])
    if not isinstance(value, str | int | float | bool):
        text = f"key failed: {graph.key.source[:200]}: expected text, a number or a truth value, got {value!r}"
        return PassedOver(graph.name, text[:500])
    return Place(lane_id(workspace_id, graph.name, key_of(value)), str(value)[:200].replace("\0", "\ufffd"))


def lane_id(workspace_id: int, workflow: str, key: bytes) -> UUID:
    """The id of a lane: BLAKE2b-128 of what tells it apart. `key`: 16 bytes, or none."""
    text = b"\0".join([b"lane", str(workspace_id).encode(), workflow.encode(), key])
    return UUID(bytes=hashlib.blake2b(text, digest_size=16).digest())


class Lanes:
    """Carries lanes on."""

    def __init__(self, database: Database, workflows: Workflows) -> None:
        self._database = database
        self._workflows = workflows

    async def carry(self, item: WorkItem) -> frozenset[str]:
        """One look at a lane that this process holds; it is let go with it. The queues with something new to do.

        Raises:
            LeaseLost: somebody else holds it.
        """
        found = await lanes.waiting(self._database, item.id, PAGE + 1)
        rows, more = found[:PAGE], len(found) > PAGE
        rules = await self._rules(rows)
        recent = rules.throttle.limit if rules.throttle is not None else 0
        active = await lanes.active(self._database, item.id, recent)
        pending = [Pending(row.seq, row.request.delivery_id, row.at, row.request.size) for row in rows]
        decided = step(rules, pending, active=active.runs, recent=active.recent, now=active.now, more=more)
        faults.point("lane.decided")
        outcome = _outcome(rows, decided, active, rules, more)
        queues = await lanes.write(self._database, item.id, item.token, item.signal, outcome)
        if queues is None:
            raise LeaseLost(f"lane {item.id}: token {item.token} is not current any more")
        faults.point("lane.written")
        return queues | ({item.queue} if outcome.due <= active.now and not outcome.over else frozenset())

    async def _rules(self, rows: Sequence[Waiting]) -> Lane:
        if not rows:
            return Lane()
        graph = await self._workflows.graph(rows[-1].request.workflow_hash)
        return graph.lane or Lane()


def _outcome(rows: Sequence[Waiting], decided: Step, active: Active, rules: Lane, more: bool) -> Outcome:
    requests = {row.seq: row.request for row in rows}
    runs: list[NewRun] = []
    settled: list[tuple[UUID, bytes]] = []
    for group in decided.starts:
        *earlier, last = (requests[one.seq] for one in group)
        run = _run([last] if rules.debounce is not None else [*earlier, last], active.now)
        runs.append(run)
        reason = f"debounced: delivery {last.delivery_id} came after it" if rules.debounce is not None else None
        settled += [_settled(one, run.id, reason) for one in earlier]
        settled.append(_settled(last, run.id, None))
    settled += [_settled(requests[one.request.seq], None, one.reason) for one in decided.settled]
    newest = f"delivery {rows[-1].request.delivery_id}" if rows else ""
    return Outcome(
        workspace_id=rows[0].request.workspace_id if rows else 1,
        runs=tuple(runs),
        taken=tuple(requests[seq].item for seq in _taken(decided)),
        settled=tuple(settled),
        cancel=decided.cancel,
        cancel_with=encode_signal(Cancel("its lane", f"replaced: {newest} came")),
        due=decided.due,
        over=not decided.left and not more,
    )


def _taken(decided: Step) -> Iterator[int]:
    for group in decided.starts:
        yield from (one.seq for one in group)
    yield from (one.request.seq for one in decided.settled)


def _run(group: Sequence[StartRequest], now: float) -> NewRun:
    """The run of some requests; the last one's delivery is its own."""
    last = group[-1]
    started = RunStarted(
        workflow=last.workflow,
        workflow_hash=last.workflow_hash.hex(),
        delivery_id=last.delivery_id,
        at=now,
        replay_of=last.replay_of,
        traceparent=last.traceparent,
        lane=last.lane_id,
        deliveries=tuple(one.delivery_id for one in group) if len(group) > 1 else (),
    )
    return NewRun(
        id=derived_id(last.item, last.workflow),
        workflow=last.workflow,
        workflow_hash=last.workflow_hash,
        queue=last.queue,
        started=encode(started)[1],
        leased=False,
        replay_of=last.replay_of,
        delivery_id=last.delivery_id,
    )


def _settled(request: StartRequest, run: UUID | None, reason: str | None) -> tuple[UUID, bytes]:
    """What a delivery's history says of it: `{item, workflow, run, reason}`."""
    said = {"item": request.item, "workflow": request.workflow, "run": run, "reason": reason}
    return request.delivery_id, msgspec.json.encode(said)
