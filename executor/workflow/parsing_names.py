"""Which names an expression may use where it stands: fields of the delivery, and nodes that are done before."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from executor.workflow.expressions import Expression
from executor.workflow.wording import did_you_mean

EVENT_FIELDS = (
    "id",
    "source",
    "type",
    "method",
    "query",
    "headers",
    "body",
    "form",
    "files",
    "received_at",
)
FIELDS: Mapping[str, tuple[str, ...]] = {
    "event": EVENT_FIELDS,
    "trigger": EVENT_FIELDS,
    "run": ("id", "workflow", "started_at"),
}
"""What these hold in expressions. `input`, `item` and `error` are what they are given; `index` is a number."""


class Names(msgspec.Struct, frozen=True):
    """What may be named at one place.

    Args:
        nodes: all nodes that could be meant, for what is told of one that may not be named.
        before: those that may be named.
        whose: who has to need a node for it to be named, as a fault tells it: "n needs, itself or through others".
        known: whether `before` is certain; it is not in a graph with other faults.
        item: whether it stands inside a `map`.
        batch: whether runs are made of batches.
    """

    nodes: Collection[str] = ()
    before: Collection[str] = ()
    whose: str = "it needs, itself or through others"
    known: bool = True
    item: bool = False
    batch: bool = False

    def faults(self, expression: Expression) -> Iterator[str]:
        """What its paths name that is not there."""
        for root, *rest in expression.paths:
            first = rest[0] if rest else None
            fields = FIELDS.get(str(root))
            if root in ("item", "index"):
                if not self.item:
                    yield f"{expression.source}: expected {root} only inside a map, got it outside"
            elif root == "events":
                if not self.batch:
                    yield f"{expression.source}: expected events only in a workflow with batch, got it without"
            elif fields is not None:
                if isinstance(first, str) and first not in fields:
                    hint = did_you_mean(first, fields) or f"; there are {', '.join(fields)}"
                    yield f"{expression.source}: expected a field of {root}, got {first!r}{hint}"
            elif root == "nodes":
                yield from self._node(expression.source, first, rest)

    def _node(self, source: str, first: object, rest: list[str | int]) -> Iterator[str]:
        if not isinstance(first, str):
            yield f"{source}: expected nodes.<name>.output, got nodes without a name"
        elif first not in self.nodes:
            yield f"{source}: expected a node, got {first!r}{did_you_mean(first, self.nodes)}"
        elif self.known and first not in self.before:
            yield f"{source}: expected nodes that {self.whose}, got {first!r}; add it to needs"
        elif rest[1:] and rest[1] != "output":
            yield f"{source}: expected nodes.{first}.output, got {rest[1]!r}"
