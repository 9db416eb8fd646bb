"""What is to be done next in a run: a pure function of its graph, its state and the time.

The engine asks again after every outcome. Skips are named first, because they make other nodes settle; then the nodes
that can start; then, when nothing is in flight, how the run ends or until when it sleeps.
"""

from __future__ import annotations

from collections.abc import Set

import msgspec

from executor.workflow.facts import NodeSkipped, RunCompleted, RunFailed
from executor.workflow.graph import Graph
from executor.workflow.state import Broken, Done, Retrying, RunState, Skipped


class Skip(msgspec.Struct, frozen=True):
    """Note these nodes as skipped, then plan again."""

    facts: tuple[NodeSkipped, ...]


class Go(msgspec.Struct, frozen=True):
    """Start these nodes now; come back at `wake` (Unix seconds) at the latest, if it is not None."""

    start: tuple[str, ...]
    wake: float | None


class End(msgspec.Struct, frozen=True):
    """The run is over."""

    fact: RunCompleted | RunFailed


Plan = Skip | Go | End


def plan(graph: Graph, state: RunState, now: float, running: Set[str] = frozenset()) -> Plan:
    """The next step.

    Args:
        now: Unix seconds by the database's clock.
        running: nodes in flight in this process.
    """
    deadline = state.started_at + graph.timeout if graph.timeout is not None else None
    if deadline is not None and now >= deadline:
        return End(RunFailed(f"the run's timeout of {graph.timeout:g} s has passed"))
    skips: list[NodeSkipped] = []
    start: list[str] = []
    wakes = [deadline] if deadline is not None else []
    open_nodes = 0
    for name in graph.order:
        match state.nodes.get(name):
            case None:
                open_nodes += 1
                if name not in running:
                    _look(graph, state, name, skips, start)
            case Retrying(at=at):
                open_nodes += 1
                if name not in running:
                    if at <= now:
                        start.append(name)
                    else:
                        wakes.append(at)
            case Done() | Skipped() | Broken():
                pass
    if skips:
        return Skip(tuple(skips))
    if open_nodes == 0:
        return _end(state)
    return Go(tuple(start), min(wakes, default=None))


def _look(graph: Graph, state: RunState, name: str, skips: list[NodeSkipped], start: list[str]) -> None:
    """Whether an untouched node can start, has to be skipped, or waits on."""
    for need in graph.nodes[name].needs:
        match state.nodes.get(need):
            case Done():
                continue
            case Skipped():
                skips.append(NodeSkipped(name, f"needs {need}, which was skipped"))
            case Broken():
                skips.append(NodeSkipped(name, f"needs {need}, which failed"))
            case None | Retrying():
                pass
        return
    start.append(name)


def _end(state: RunState) -> End:
    errors = [node.error for node in state.nodes.values() if isinstance(node, Broken)]
    return End(RunFailed("; ".join(errors)[:2000]) if errors else RunCompleted())
