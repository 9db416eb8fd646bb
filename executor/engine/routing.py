"""From a claimed delivery to its runs: which workflows want it, and what the log is told about that.

Pure: the log's rows go in, rows for the log come out. Run ids are derived from the work item's id and the workflow's
name, so that a routing that is repeated after a lost commit names the same runs.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec

from events.effects import Arrival, StartRequest
from events.ids import derived_id
from events.runs import NewRun, Routing
from events.types import Event, Kind, WorkItem
from executor.engine.held import Held
from executor.engine.lanes import place
from executor.engine.scope import DeliveryScope
from executor.engine.scope_run import Scopes
from executor.engine.workflows import Current
from executor.workflow.facts import RunStarted, encode
from executor.workflow.graph import Graph
from executor.workflow.state import evolve
from executor.workflow.triggers import PassedOver


class Routed(msgspec.Struct, frozen=True):
    """A routing to append and, once it is appended, the runs that start here."""

    routing: Routing
    runs: tuple[Held, ...]
    elsewhere: frozenset[str]
    """Queues that get a run of this delivery and are not served here."""
    traceparent: str | None


def route(
    item: WorkItem,
    receipt: Event,
    current: Current,
    *,
    now: float,
    here: frozenset[str],
    traceparent: str | None,
    arrivals: tuple[Arrival, ...] = (),
    lanes: bool = True,
) -> Routed:
    """Routes one delivery or replay.

    Args:
        now: Unix seconds; when the runs start.
        here: the queues that this process serves.
        traceparent: the trace that the runs belong to.
        arrivals: what runs that wait may find the delivery by.
        lanes: whether workflows with lanes are asked for runs, or start them at once as all others.
    """
    scope = DeliveryScope(receipt)
    if item.workspace_id in current.limited:
        here = frozenset()  # a place has to be found for each run, which the claim does
    match = current.of(item.workspace_id).match(scope, item.only_workflow)
    new, held = [], []
    requests: list[StartRequest] = []
    passed_over = [*match.passed_over]
    for graph in match.wanted:
        queue = item.queue if item.kind is Kind.REPLAY else graph.queue
        if graph.lane is not None and lanes:
            asked = _request(item, graph, scope, queue=queue, size=len(receipt.body or b""), traceparent=traceparent)
            if isinstance(asked, PassedOver):
                passed_over.append(asked)
            else:
                requests.append(asked)
            continue
        id = derived_id(item.id, graph.name)
        started = RunStarted(
            workflow=graph.name,
            workflow_hash=graph.hash.hex(),
            delivery_id=item.stream_id,
            at=now,
            replay_of=item.id if item.kind is Kind.REPLAY else None,
            traceparent=traceparent,
        )
        new.append(_new_run(id, graph, queue, started, queue in here))
        if queue in here:
            state = evolve(None, started)
            scopes = Scopes(id, graph, state, scope)
            held.append(Held(id, 1, graph, state, scopes, traceparent, workspace_id=item.workspace_id))
    body: dict[str, Any] = {
        "item": item.id,
        "runs": [{"id": run.id, "workflow": run.workflow} for run in new],
        "passed_over": passed_over,
    }
    if requests:
        body["held"] = [{"workflow": one.workflow, "lane": one.lane_id, "key": one.key} for one in requests]
    return Routed(
        Routing(
            item.id,
            item.token,
            item.stream_id,
            item.workspace_id,
            "delivery.routed",
            msgspec.json.encode(body),
            tuple(new),
            arrivals,
            tuple(requests),
        ),
        tuple(held),
        frozenset(run.queue for run in new if not run.leased),
        traceparent,
    )


def park(item: WorkItem, reason: str) -> Routing:
    """Takes a delivery that kills whoever routes it out of circulation; a replay brings it back."""
    body = msgspec.json.encode({"item": item.id, "reason": reason})
    kind: Literal["delivery.parked"] = "delivery.parked"
    return Routing(item.id, item.token, item.stream_id, item.workspace_id, kind, body)


def _request(
    item: WorkItem, graph: Graph, scope: DeliveryScope, *, queue: str, size: int, traceparent: str | None
) -> StartRequest | PassedOver:
    """What a lane is asked for."""
    found = place(graph, scope, item.workspace_id)
    if isinstance(found, PassedOver):
        return found
    return StartRequest(
        lane_id=found.lane_id,
        workspace_id=item.workspace_id,
        workflow=graph.name,
        key=found.key,
        workflow_hash=graph.hash,
        queue=queue,
        delivery_id=item.stream_id,
        item=item.id,
        replay_of=item.id if item.kind is Kind.REPLAY else None,
        size=size,
        traceparent=traceparent,
    )


def _new_run(id: UUID, graph: Graph, queue: str, started: RunStarted, leased: bool) -> NewRun:
    return NewRun(
        id=id,
        workflow=graph.name,
        workflow_hash=graph.hash,
        queue=queue,
        started=encode(started)[1],
        leased=leased,
        replay_of=started.replay_of,
    )
