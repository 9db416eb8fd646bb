"""The `match` of a `wait.event`: how a waiting run is found among many without asking each of them.

Somewhere in `match`, joined to the rest by `&&`, stands an equation with the awaited event on one side only. Its
event's side is evaluated once for each delivery, its other side once for each wait; both become a key, and equal keys
meet in an index. Whoever was found so is asked for the whole of `match`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from executor.workflow.cel_syntax import Call, Node, parse, walk
from executor.workflow.cel_syntax import Name as CelName
from executor.workflow.expressions import MATCH_ROOTS, TRIGGER_ROOTS, Expression, ExpressionError


class Match(msgspec.Struct, frozen=True):
    """A `match`, compiled. `event_side` names nothing but `event`, `own_side` anything else. `expression`: 16 bytes
    that name the event's side.
    """

    whole: Expression
    event_side: Expression
    own_side: Expression
    expression: bytes


def compile_match(source: str) -> Match:
    """The parts of a `match`.

    Raises:
        ExpressionError: it is not CEL, or has no equation that can be looked up.
    """
    whole = Expression(source, MATCH_ROOTS)
    for conjunct in _conjuncts(parse(source)):
        if not (isinstance(conjunct, Call) and conjunct.name == "==" and len(conjunct.arguments) == 2):
            continue
        left, right = conjunct.arguments
        for event_side, own_side in ((left, right), (right, left)):
            if _roots(event_side) == {"event"} and (own := _roots(own_side)) and "event" not in own:
                text = source[event_side.start : event_side.end]
                return Match(
                    whole,
                    Expression(text, TRIGGER_ROOTS),
                    Expression(source[own_side.start : own_side.end], MATCH_ROOTS),
                    expression_hash(text),
                )
    raise ExpressionError(
        f"{source[:200]}: expected something of event == something of the run (trigger, nodes, input, run), "
        "joined to the rest by &&, got no such equation"
    )


def expression_hash(text: str) -> bytes:
    """16 bytes that name an event-side expression."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def key_of(value: Any, workspace_id: int = 1) -> bytes:
    """16 bytes that are equal for values of one workspace that CEL calls equal.

    Those of two workspaces never are, so that a delivery of one meets no wait of another, whatever they name.
    """
    person = b"" if workspace_id == 1 else workspace_id.to_bytes(4, "big")
    data = msgspec.json.encode(_plain(value), order="deterministic")
    return hashlib.blake2b(data, digest_size=16, person=person).digest()


def _plain(value: Any) -> Any:
    """The value with whole numbers as such: in CEL, 1.0 equals 1, inside of lists and maps too."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_plain(part) for part in value]
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case _:
            return value


def _conjuncts(node: Node) -> list[Node]:
    if isinstance(node, Call) and node.name == "&&":
        return [part for argument in node.arguments for part in _conjuncts(argument)]
    return [node]


def _roots(node: Node) -> set[str]:
    return {part.name for part in walk(node) if isinstance(part, CelName)}
