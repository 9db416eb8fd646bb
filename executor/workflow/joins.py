"""Whether a node that was not tried yet can start: what it needs, and what became of that.

`needs` (all of them) and `any` (`at_least` many of them) are met by nodes that completed. A node with `when: failed` or
`when: always` waits until all that it needs is settled, in whatever way. A skip passes on, with its cause, to the nodes
that cannot do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from executor.workflow.graph import GraphNode, Level
from executor.workflow.state import Broken, Done, NodeState, Skipped


class Join(Enum):
    """What a join says, unless it skips the node."""

    READY = "what it needs is there"
    WAIT = "not yet"


def look(node: GraphNode, nodes: Mapping[str, NodeState]) -> Join | Skipped:
    """Whether a node can start, has to wait, or is skipped.

    Args:
        nodes: the states of the nodes beside it.
    """
    if node.when == "succeeded":
        return _succeeded(node, nodes)
    settled = [nodes.get(need) for need in node.needs]
    if not all(isinstance(state, Done | Skipped | Broken) for state in settled):
        return Join.WAIT
    if node.when == "always" or any(map(_failed, settled)):
        return Join.READY
    return Skipped("nothing that it needs has failed")


def handled(level: Level, nodes: Mapping[str, NodeState], name: str) -> bool:
    """Whether a node that failed is answered for: a `when: failed` node behind it has completed."""
    return any(name in causes and isinstance(nodes.get(catcher), Done) for catcher, causes in level.handles.items())


def _succeeded(node: GraphNode, nodes: Mapping[str, NodeState]) -> Join | Skipped:
    ready = True
    for need in node.required:
        state = nodes.get(need)
        if isinstance(state, Skipped | Broken):
            return _without(need, state)
        ready = ready and isinstance(state, Done)
    if node.any:
        states = [nodes.get(need) for need in node.any]
        done = sum(isinstance(state, Done) for state in states)
        lost = [state for state in states if isinstance(state, Skipped | Broken)]
        if len(states) - len(lost) < node.at_least:
            text = f"needs {node.at_least} of {', '.join(node.any)}, of which {len(lost)} were skipped or failed"
            return Skipped(text, any(map(_failed, lost)))
        ready = ready and done >= node.at_least
    return Join.READY if ready else Join.WAIT


def _without(need: str, state: Skipped | Broken) -> Skipped:
    if isinstance(state, Broken):
        return Skipped(f"needs {need}, which failed", True)
    return Skipped(f"needs {need}, which was skipped", state.failed)


def _failed(state: NodeState | None) -> bool:
    return isinstance(state, Broken) or (isinstance(state, Skipped) and state.failed)
