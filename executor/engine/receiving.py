"""From a row of the inbox to the facts that it comes to: what a run makes of what others tell it.

Every row comes to at least one fact that holds its seq, also where it changes nothing: the log says that it was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from executor.engine.scope import DeliveryScope
from executor.engine.scope_run import Scopes
from executor.engine.store import Row, RunStore
from executor.workflow.expressions import ExpressionError
from executor.workflow.facts import (
    NodeCompleted,
    NodeFailed,
    RunCancelling,
    RunFact,
    RunPaused,
    RunReopened,
    RunResumed,
    SignalReceived,
)
from executor.workflow.globs import fits
from executor.workflow.graph import Graph
from executor.workflow.paths import steps
from executor.workflow.reopening import to_reset
from executor.workflow.signals import Arrived, Cancel, ChildEnded, Decide, Pause, Resume, Retry
from executor.workflow.state import Items, NodeState, RunState, RunStatus, Waiting
from executor.workflow.verdict import retry_at
from executor.workflow.waits import ForApproval, ForChild, ForEvent


class Receiving:
    """Reads signals for one run that is held.

    Args:
        state: the fold of what was noted; only read here.
    """

    def __init__(self, id: UUID, graph: Graph, state: RunState, scopes: Scopes, store: RunStore) -> None:
        self._id = id
        self._graph = graph
        self._state = state
        self._scopes = scopes
        self._store = store

    async def facts(self, row: Row, now: float) -> list[RunFact]:  # noqa: PLR0911 - one case for each signal
        """What a row comes to. `now`: Unix seconds."""
        state, seq = self._state, row.seq
        ended = state.status is not RunStatus.RUNNING
        ending = ended or state.cancelled is not None or state.failing is not None  # nodes come to nothing any more
        match row.signal:
            case Retry(by, node) if ended:
                return [RunReopened(seq, by, now, to_reset(self._graph, state, node))]
            case Cancel(by, reason) if not ended and state.cancelled is None:
                return [RunCancelling(seq, by, reason)]
            case Pause(by, reason) if not ended and not state.paused and state.cancelled is None:
                return [RunPaused(seq, by, reason)]
            case Resume(by) if not ended and state.paused:
                return [RunResumed(seq, by)]
            case Decide() as decision if not ending:
                return self._decided(seq, decision)
            case Arrived(node, delivery_id) if not ending:
                found = await self.arrived(node, delivery_id)
                note = None if found else "not what it waits for, or it does not wait any more"
                return [SignalReceived(seq, "event.arrived", node, note=note), *found]
            case ChildEnded() as child if not ending:
                return self._child(seq, child, now)
            case signal:
                kind = type(signal).__name__.lower()
                note = "the run has ended, or ends" if ending else "it changes nothing: the run is that way already"
                return [SignalReceived(seq, kind, by=getattr(signal, "by", None), note=note)]

    async def arrived(self, path: str, delivery_id: UUID) -> list[NodeCompleted]:  # noqa: PLR0911 - one no after another
        """The completion of a `wait.event` by a delivery, if it is the one: asked by type and by all of `match`."""
        waiting = self.waiting(path)
        node = None if waiting is None else self._graph.at(path)
        if waiting is None or not isinstance(waiting.wait, ForEvent) or node is None or node.match is None:
            return []
        if delivery_id == self._state.delivery_id or str(delivery_id) in self._state.matched:
            return []
        receipt = await self._store.delivery(delivery_id)
        if receipt is None:
            return []
        delivery = DeliveryScope(receipt)
        if not fits(waiting.wait.glob, delivery["type"]):
            return []
        own = await self._scopes.of(path, node.mentions, self._store)
        try:
            verdict = node.match.whole.evaluate({**own, "trigger": own["event"], "event": delivery})
        except ExpressionError:
            return []
        if verdict is not True:
            return []
        return [NodeCompleted(path, waiting.attempt, _told(delivery))]

    def waiting(self, path: str) -> Waiting | None:
        """The state of a node that waits; None for any other, or none."""
        nodes: dict[str, NodeState] = self._state.nodes
        outer, name = steps(path)
        for map_name, index in outer:
            items = nodes.get(map_name)
            if not isinstance(items, Items):
                return None
            nodes = items.frames.get(index, {})
        found = nodes.get(name)
        return found if isinstance(found, Waiting) else None

    def _decided(self, seq: int, decision: Decide) -> list[RunFact]:
        waiting = self.waiting(decision.node)
        if waiting is None or not isinstance(waiting.wait, ForApproval):
            return [SignalReceived(seq, "decide", decision.node, decision.by, "the node does not wait for a decision")]
        output = {"approved": decision.approved, "by": decision.by, "data": decision.data}
        received = SignalReceived(seq, "decide", decision.node, decision.by)
        return [received, NodeCompleted(decision.node, waiting.attempt, output)]

    def _child(self, seq: int, child: ChildEnded, now: float) -> list[RunFact]:
        waiting = self.waiting(child.node)
        received = SignalReceived(seq, "child.ended", child.node)
        if waiting is None or not isinstance(waiting.wait, ForChild) or waiting.wait.run_id != child.run_id:
            return [SignalReceived(seq, "child.ended", child.node, note="the node does not wait for this run")]
        if child.status == "completed":
            return [received, NodeCompleted(child.node, waiting.attempt, child.output)]
        message = f"run {child.run_id} of {waiting.wait.workflow} {child.status}: {child.error or 'no reason given'}"
        again = retry_at(self._graph.at(child.node), child.node, self._id, waiting.attempt, "child", now)
        return [received, NodeFailed(child.node, waiting.attempt, "child", message[:2000], again)]


def _told(delivery: Mapping[str, Any]) -> dict[str, Any]:
    """What a `wait.event` completes with."""
    return {name: delivery[name] for name in ("id", "source", "type", "received_at", "body")}
