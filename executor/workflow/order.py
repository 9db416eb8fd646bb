"""The order of a graph by `needs`: cycles, ancestors, topological order.

No recursion: a graph may be one long chain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

Needs = Mapping[str, tuple[str, ...]]


def topological(needs: Needs) -> tuple[str, ...]:
    """Every node after those it needs, else in the document's order. Nodes on a cycle are left out."""
    missing = {name: len(set(required)) for name, required in needs.items()}
    ready = deque(name for name, count in missing.items() if count == 0)
    after = dependents(needs)
    order: list[str] = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for dependent in after[name]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                ready.append(dependent)
    return tuple(order)


def dependents(needs: Needs) -> dict[str, tuple[str, ...]]:
    """The nodes that need each node, in the order of the document."""
    found: dict[str, list[str]] = {name: [] for name in needs}
    for name, required in needs.items():
        for need in dict.fromkeys(required):
            found[need].append(name)
    return {name: tuple(names) for name, names in found.items()}


def ancestors(needs: Needs) -> dict[str, frozenset[str]]:
    """The nodes that each node needs, itself or through others. There must be no cycle."""
    found: dict[str, frozenset[str]] = {}
    for name in topological(needs):
        found[name] = frozenset(needs[name]).union(*(found[need] for need in needs[name]))
    return found


def cycle(needs: Needs) -> tuple[str, ...]:
    """A cycle, its first node again at the end; empty where there is none."""
    left = set(needs).difference(topological(needs))
    if not left:
        return ()
    name = next(name for name in needs if name in left)
    path: list[str] = []
    while name not in path:  # every node that is left needs another that is left
        path.append(name)
        name = next(need for need in needs[name] if need in left)
    return (*path[path.index(name) :], name)
