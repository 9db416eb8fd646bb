"""An upper bound on the work of an expression, known before it is evaluated.

CEL always ends, but it may end late: a doubling `map` repeated twenty times makes a million copies, `map`
and `filter` copy what they have built for each element, and a pattern is compiled each time it is met. The
evaluator holds the GIL all the while and cannot be stopped. So the tree is first walked with sizes in place
of values, and what would cost too much is refused. The constants are nanoseconds measured on
common-expression-language 0.10 and rounded up.

The bound is linear in an element's size: the sum over a list is the count times the cost of its mean element.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from executor.workflow.cel_syntax import (
    Call,
    Collection,
    Comprehension,
    Has,
    Index,
    Member,
    Name,
    Node,
)

MAX_WORK = 100e6
"""Nanoseconds that one evaluation may take, by this bound."""
MAX_ELEMENTS = 10_000
"""Elements of a list or map that a comprehension may visit."""
MAX_BYTES = 16 << 20
"""Bytes, as JSON, that a value may have on the way."""
MAX_PATTERN = 200
"""Characters of a pattern."""
MAX_STATES = 2_000
"""Characters of a pattern once its counted repetitions are written out."""

_STEP = 100.0
_CLONE_NODE, _CLONE_BYTE = 130.0, 0.5
_CONVERT_NODE, _CONVERT_BYTE, _RETURN_NODE = 1_800.0, 2.0, 500.0
_ELEMENT = 400.0
_STATE, _STATE_BYTE = 5_000.0, 20.0
_CLASS_STATES = {
    "d": 10,
    "s": 10,
    "b": 1,
}  # of a class such as \d; others, as \w and \pL, compile for 0.3 ms:
_LARGE_CLASS = 60


class Size(NamedTuple):
    """How large a value is, at most: scalars and keys in it, bytes as JSON, elements at its top."""

    nodes: float
    bytes: float
    elements: float


_SCALAR = Size(1.0, 64.0, 0.0)


class TooMuch(Exception):
    """The expression would cost more than it may; the text says what and how much."""


def measure(value: Any) -> Size:
    """The size of a JSON-like value. Ten times cheaper than converting it to CEL."""
    if isinstance(value, str):
        return Size(1.0, len(value) if value.isascii() else 4 * len(value), 0.0)
    if isinstance(value, list | dict):
        text = msgspec.json.encode(value)
        # Commas inside strings count too: the bound is a little high, never low.
        marks = text.count(b",") + text.count(b":") + text.count(b"[") + text.count(b"{")
        return Size(marks + 1.0, len(text), len(value))
    return Size(1.0, len(value), 0.0) if isinstance(value, bytes) else _SCALAR


def bound(
    tree: Node, variable: Callable[[Node], Size | None], patterns: Mapping[Node, int], spent: float = 0.0
) -> float:
    """The nanoseconds that a tree may take, with those that were spent before.

    Args:
        variable: the size of what a node stands for, where it is replaced by a value of the scope.
        patterns: states of the patterns of `matches`, by their literals.

    Raises:
        TooMuch: with what would be exceeded.
    """
    walk = _Bound(variable, patterns, spent)
    result = walk.size(tree, {})
    walk.spend(result.nodes * _RETURN_NODE + result.bytes * _CONVERT_BYTE)
    return walk.work


def conversion(sizes: list[Size]) -> float:
    """Nanoseconds to hand these values to CEL.

    Raises:
        TooMuch: it is more than one evaluation may take.
    """
    work = sum(map(_convert, sizes))
    _within(work, sum(size.bytes for size in sizes))
    return work


def check_elements(kind: str, count: float) -> None:
    """Refuses a comprehension over too many elements.

    Raises:
        TooMuch: over `MAX_ELEMENTS`.
    """
    if count > MAX_ELEMENTS:
        raise TooMuch(f"{kind} over up to {count:,.0f} elements; at most {MAX_ELEMENTS:,} are allowed")


def pattern_states(pattern: str) -> int:
    """How many states a pattern of `matches` compiles to, roughly and rather too many.

    Matching is linear in the text (Rust's regex): at worst every state looks at every byte.

    Raises:
        TooMuch: over `MAX_PATTERN` characters or `MAX_STATES` states.
    """
    if len(pattern) > MAX_PATTERN:
        raise TooMuch(f"a pattern of {len(pattern)} characters; at most {MAX_PATTERN} are allowed")
    if re.search(r"\(\?[A-Za-z-]*x", pattern):
        raise TooMuch("a pattern in verbose mode, (?x); write it without spaces")
    groups = [0]  # states of each open group
    last = 0  # states of the last item, which a repetition multiplies
    for item in re.finditer(r"\\[pP]\{[^}]*\}|\\[pP].|\\.|\{(\d+)(?:,(\d*))?\}|.", pattern, re.DOTALL):
        text = item[0]
        if item[1] is not None:
            times = max(int(item[1]), int(item[2] or 0), 1)
            groups[-1] += last * (times - 1)
            last *= times
        elif text == "(":
            groups.append(0)
        elif text == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        else:
            last = _CLASS_STATES.get(text[1].lower(), _LARGE_CLASS) if re.match(r"\\[wWdDsSpPbB]", text) else 1
            groups[-1] += last
        if groups[-1] > MAX_STATES:
            break
    states = sum(groups)
    if states > MAX_STATES:
        raise TooMuch(f"a pattern of {states} states, its repetitions written out; at most {MAX_STATES} are allowed")
    return states


def _convert(size: Size) -> float:
    return size.nodes * _CONVERT_NODE + size.bytes * _CONVERT_BYTE


def _clone(size: Size) -> float:
    return size.nodes * _CLONE_NODE + size.bytes * _CLONE_BYTE


def _within(work: float, bytes: float) -> None:
    if bytes > MAX_BYTES:
        raise TooMuch(f"a value of up to {bytes / (1 << 20):,.0f} MB; at most {MAX_BYTES >> 20} are allowed")
    if work > MAX_WORK:
        raise TooMuch(f"up to {work / 1e6:,.0f} ms of work; at most {MAX_WORK / 1e6:.0f} are allowed")


def _sum(sizes: list[Size]) -> Size:
    return Size(sum(s.nodes for s in sizes), sum(s.bytes for s in sizes), sum(s.elements for s in sizes))


class _Bound:
    def __init__(self, variable: Callable[[Node], Size | None], patterns: Mapping[Node, int], work: float) -> None:
        self._variable = variable
        self._patterns = patterns
        self.work = work
        self._times = 1.0  # how often what is being walked is evaluated

    def spend(self, work: float, size: Size = _SCALAR) -> None:
        self.work += work * self._times
        _within(self.work, size.bytes)

    def size(self, node: Node, bound: Mapping[str, Size]) -> Size:  # noqa: PLR0911  # one per kind of node
        """The size of the node's value; its work is added up."""
        self.spend(_STEP)
        found = self._variable(node)
        if found is not None:
            return found
        match node:
            case Name(name=name):
                size = bound.get(name, _SCALAR)
                self.spend(_clone(size))
                return size
            case Member(operand=operand):
                return self._part(self.size(operand, bound))
            case Index(operand=operand, index=index):
                self.size(index, bound)
                return self._part(self.size(operand, bound))
            case Has(member=member):
                self.size(member, bound)
                return _SCALAR
            case Call():
                return self._call(node, [self.size(part, bound) for part in node.arguments])
            case Collection(parts=parts):
                size = _sum([self.size(part, bound) for part in parts])
                size = Size(size.nodes + 1, size.bytes + 2 + 2 * len(parts), len(parts))
                self.spend(_clone(size), size)
                return size
            case Comprehension():
                return self._comprehension(node, bound)
            case _:
                return Size(1.0, node.end - node.start, 0.0)

    def _part(self, whole: Size) -> Size:
        """A part of a value may be nearly all of it, and a list where it was a scalar."""
        self.spend(_clone(whole))
        return Size(whole.nodes, whole.bytes, whole.nodes)

    def _call(self, call: Call, sizes: list[Size]) -> Size:  # noqa: PLR0911  # one per kind of call
        total = _sum(sizes)
        match call.name:
            case "size" | "&&" | "||" | "!":
                return _SCALAR
            case "?:":
                return _sum(sizes[1:])
            case "+":
                self.spend(2 * _clone(total), total)
                scalars = all(size.nodes <= 1 for size in sizes)
                return Size(1.0, total.bytes, 0.0) if scalars else total
            case "dyn":
                return total
            case "string" | "bytes":
                self.spend(_clone(total), total)
                return Size(1.0, total.bytes + 64, 0.0)
            case "matches":
                states = self._patterns[call.arguments[1]]
                self.spend(states * (_STATE + _STATE_BYTE * sizes[0].bytes))
                return _SCALAR
        self.spend(_clone(total))
        return _SCALAR

    def _comprehension(self, node: Comprehension, bound: Mapping[str, Size]) -> Size:
        over = self.size(node.over, bound)
        count = over.elements
        check_elements(node.kind, count)
        self.spend(_clone(over))
        within = max(over.nodes - 1, 0) / max(count, 1)  # the list itself is a node
        mean = Size(within, over.bytes / max(count, 1), within)
        outer, self._times = self._times, self._times * count
        self.spend(_ELEMENT)
        bodies = [self.size(part, {**bound, node.variable: mean}) for part in node.body]
        self._times = outer
        if node.kind not in ("map", "filter"):
            return _SCALAR
        made = over if node.kind == "filter" else Size(bodies[-1].nodes * count, bodies[-1].bytes * count, count)
        # Each element copies the list that is there so far: half of it in the mean, and some for growing.
        self.spend(0.6 * count * _clone(made), made)
        return Size(made.nodes + 1, made.bytes + 2, count)
