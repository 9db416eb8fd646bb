"""What a drawing says of a node besides its name and type, and of what starts a workflow."""

from __future__ import annotations

from executor.workflow.graph import Graph, GraphNode

_LONGEST = 40


def details(node: GraphNode) -> list[str]:
    """In few words each: its join, its condition, what its items may do, what takes it back."""
    found = []
    if node.any:
        found.append(f"{node.at_least} of {len(node.any)}" if node.at_least > 1 else "any")
    if node.when != "succeeded":
        found.append(f"when {node.when}")
    if node.condition is not None:
        found.append(f"if {cut(node.condition.source)}")
    if node.body is not None:
        found.append(f"{node.body.concurrency} at once")
        if node.body.failures != 0:
            found.append("any may fail" if node.body.failures is None else f"{node.body.failures} may fail")
    if node.undo is not None:
        found.append(f"↩ {node.undo.uses}")
    return found


def starts(graph: Graph) -> list[str]:
    """One text for each trigger."""
    found = []
    for trigger in graph.triggers:
        condition = f" if {cut(trigger.condition.source)}" if trigger.condition is not None else ""
        found.append(f"{trigger.source} {trigger.glob}{condition}")
    return found


def cut(text: str) -> str:
    """One line of at most 40 characters."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
