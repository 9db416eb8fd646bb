"""Where a node stands in a run: `charge`, or `orders[3].charge` inside an item of a `map`, or `charge!undo`.

A path is text because it is a key in facts, in the work of a process and in idempotency keys; the characters that join
its parts are in no node's name.
"""

from __future__ import annotations

UNDO = "!undo"
"""After a node's path: its compensation."""
ON_ERROR = "!on_error"
"""The node that runs when the run has failed."""


def item_prefix(path: str, index: int) -> str:
    """What the paths of the nodes in an item of a map begin with."""
    return f"{path}[{index}]."


def steps(path: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """((map, index), …) from the outside in, and the node's own name: `a[1].b[2].c` is ((a, 1), (b, 2)), c."""
    *outer, name = path.split("].")
    found: list[tuple[str, int]] = []
    for part in outer:
        map_name, _, index = part.rpartition("[")
        found.append((map_name, int(index)))
    return tuple(found), name


def static(path: str) -> tuple[str, ...]:
    """The names alone, without the items: `a[1].b` is (a, b). All items of a map share them."""
    outer, name = steps(path)
    return (*(map_name for map_name, _ in outer), name)
