"""Nodes that can never run, whatever becomes of the others.

A node that waits for a failure (`when: failed`) never runs if it needs nothing, nor does a node that needs such a one
along with everything whose failure it waits for: where all of these have completed, nothing has failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from executor.workflow.definition import Node
from executor.workflow.order import topological


def unreachable(nodes: Mapping[str, Node]) -> Iterator[tuple[str, str]]:
    """(name, why) of each node that can never run for a reason of its own. All needs exist, and there is no cycle.

    `must` holds, for each node, those that have completed if it has.
    """
    must: dict[str, frozenset[str]] = {}
    never: set[str] = set()
    for name in topological({name: (*node.needs, *node.any) for name, node in nodes.items()}):
        node = nodes[name]
        must[name] = frozenset((name,))
        if node.when == "succeeded":
            whole = node.needs if node.at_least < len(node.any) else (*node.needs, *node.any)
            must[name] = must[name].union(*(must[need] for need in whole))
            left = sum(one not in never for one in node.any)
            if any(need in never for need in node.needs) or left < min(node.at_least, len(node.any)):
                never.add(name)  # told of where it begins
            elif catcher := _contradiction(nodes, must[name] - never):
                never.add(name)
                causes = ", ".join((*nodes[catcher].needs, *nodes[catcher].any))
                yield name, f"it needs {catcher}, which runs only when something failed, and also {causes}, completed"
        elif node.when == "failed" and not (node.needs or node.any):
            never.add(name)
            yield name, "when: failed without needs: nothing can fail before it"


def _contradiction(nodes: Mapping[str, Node], done: frozenset[str]) -> str | None:
    """A node among `done` that waits for a failure of nodes which are all among `done`."""
    for name in sorted(done):
        node = nodes[name]
        if node.when == "failed" and done.issuperset(node.needs) and done.issuperset(node.any):
            return name
    return None
