"""Which nodes are as if they had never been tried, when an ended run is to go on.

Without a node named: whatever failed, what was skipped for it, what was under way behind it or waits for what nobody
told the ended run, and what was taken back (`compensate`) with all that stands on it. What completed without being
taken back stays, also behind a node that failed. With a node named: it, and all behind it.
"""

from __future__ import annotations

from typing import TypeGuard

from executor.workflow.graph import Graph
from executor.workflow.paths import ON_ERROR, UNDO
from executor.workflow.state import Broken, Done, NodeState, RunState, Skipped, forlorn


def to_reset(graph: Graph, state: RunState, node: str | None) -> tuple[str, ...]:
    """The paths of the nodes, in the order of the graph, among those that the state knows."""
    undone = {path.removesuffix(UNDO) for path in state.nodes if path.endswith(UNDO)}
    roots = undone | ({node} if node is not None else set())
    rerun: set[str] = set()
    chosen: dict[str, None] = {}
    for name in graph.level.order:  # every node after those it needs
        if name in roots or any(need in rerun for need in graph.nodes[name].needs):
            rerun.add(name)
        if name in rerun or _failed(state, name):
            chosen[name] = None
        elif _under_way(found := state.nodes.get(name)):
            behind = any(need in chosen for need in graph.nodes[name].needs)
            chosen |= {name: None} if behind or forlorn(found) else {}
    endings = [path for path in state.nodes if path.endswith(UNDO) or path == ON_ERROR]
    return (*(name for name in chosen if name in state.nodes), *endings)


def _failed(state: RunState, name: str) -> bool:
    found = state.nodes.get(name)
    return isinstance(found, Broken) or (isinstance(found, Skipped) and found.failed)


def _under_way(found: NodeState | None) -> TypeGuard[NodeState]:
    return found is not None and not isinstance(found, Done | Skipped)
