"""What an expression uses of its scope, and what may be published at all.

Each path from a root (`event.body.items[0].id`) is one lookup and becomes one variable of the program that
CEL compiles, `has(path)` too; nothing else is converted. The published language is CEL with these limits:
2,000 characters, 500 parts, no comprehension inside another's body (it would multiply), patterns as literals
of limited size, and functions and names that exist: a misspelt one is told when the workflow is published and
not when it runs.
"""

from __future__ import annotations

import re
from collections.abc import Collection as Names
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from executor.workflow.cel_cost import TooMuch, pattern_states
from executor.workflow.cel_syntax import (
    Call,
    Comprehension,
    Has,
    Index,
    Literal,
    Member,
    Name,
    Node,
    children,
    parse,
    walk,
)
from executor.workflow.wording import did_you_mean

MAX_SOURCE = 2_000
MAX_PARTS = 500

Key = str | int
Path = tuple[Key, ...]
Span = tuple[int, int]

_OPERATORS = frozenset({"||", "&&", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%", "!", "?:"})
_FUNCTIONS = frozenset({"size", "type", "dyn", "int", "uint", "double", "string", "bytes", "timestamp", "duration"})
_TEXT = frozenset({"size", "contains", "startsWith", "endsWith", "matches"})
_DATE = frozenset({"FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear"})
_TIME = frozenset({"Hours", "Minutes", "Seconds", "Milliseconds"})
_METHODS = _TEXT | {f"get{part}" for part in _DATE | _TIME}
_TYPES = frozenset({"int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"})
_OWN = "__h"  # what the program's variables start with


class Fields:
    """Which fields of a list's elements are used: all (`whole`), or those in `keys`, each with its own."""

    __slots__ = ("keys", "whole")

    def __init__(self) -> None:
        self.whole = False
        self.keys: dict[str, Fields] = {}

    def add(self, path: Iterable[Key], *, exists: bool) -> None:
        """Marks a path. With `exists`, only whether its last key is there is used."""
        here = self
        for key in path:
            if isinstance(key, int):
                here.whole = True
                return
            here = here.keys.setdefault(key, Fields())
        here.whole = here.whole or not exists

    def cut(self, value: Any) -> Any:
        """The value without the fields that are not used; of a scalar, itself."""
        if self.whole:
            return value
        if isinstance(value, Mapping):
            return {key: fields.cut(value[key]) for key, fields in self.keys.items() if key in value}
        return [] if isinstance(value, list | tuple) else value


class Lookup(msgspec.Struct):
    """One variable: the value at `path`, of its elements only `each`; or whether the path exists."""

    path: Path
    exists: bool = False
    each: Fields | None = None


class Analysis(msgspec.Struct):
    """What there is to know of an expression.

    `path` is set when it is only a path. `plain`: no comprehension, no pattern. `source_list`: it is `map`
    and `filter` over the list in this variable and nothing else, so it may be applied to the list by pieces.
    """

    tree: Node
    parts: tuple[Node, ...]
    path: Path | None
    paths: tuple[Path, ...]
    lookups: dict[str, Lookup]
    spans: dict[Span, str]
    rewritten: str
    patterns: dict[Node, int]
    plain: bool
    source_list: str | None
    _names: frozenset[str]

    def agree(self, variables: list[str], functions: list[str]) -> None:
        """Whether CEL's own parser saw the same names: else the limits were checked on something else.

        Raises:
            ValueError: it did not.
        """
        calls = {part.name for part in self.parts if isinstance(part, Call)} - _OPERATORS
        seen = {name for name in functions if not name.startswith(("_", "@", "!", "-"))}
        loops = {part.variable for part in self.parts if isinstance(part, Comprehension)}
        if not self._names <= set(variables) <= self._names | loops or seen != calls:
            raise ValueError("expected an expression that can be checked, got one that reads in two ways")


def path_text(path: Iterable[Key]) -> str:
    """`event.body.items[0]`, as one would write it."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        elif re.fullmatch(r"[A-Za-z_]\w*", key):
            text += f".{key}" if text else key
        else:
            text += f'["{key}"]'
    return text


def analyse(source: str, roots: Names[str]) -> Analysis:
    """Everything about an expression that can be known without a scope.

    Raises:
        ValueError: it cannot be published; expected and got.
    """
    if len(source) > MAX_SOURCE:
        raise ValueError(f"expected at most {MAX_SOURCE:,} characters, got {len(source):,}")
    tree = parse(source)
    parts = tuple(walk(tree))
    if len(parts) > MAX_PARTS:
        raise ValueError(f"expected at most {MAX_PARTS} parts, got {len(parts)}")
    uses = _Uses(roots)
    uses.visit(tree, {})
    patterns = {}
    for part in parts:
        if isinstance(part, Call):
            _check_call(part)
            if part.name == "matches":
                patterns[part.arguments[1]] = _check_pattern(part)
    loops = any(isinstance(part, Comprehension) for part in parts)
    path = _chain(tree)
    return Analysis(
        tree=tree,
        parts=parts,
        path=path if path is not None and path[0] in roots else None,
        paths=tuple(dict.fromkeys(lookup.path for lookup in uses.lookups.values())),
        lookups=uses.lookups,
        spans=uses.spans,
        rewritten=_rewrite(source, uses.spans),
        patterns=patterns,
        plain=not loops and not patterns,
        source_list=_source_list(tree, uses.spans),
        _names=frozenset(uses.names),
    )


class _Uses:
    """Finds the lookups. `bound`: the comprehension variables in sight, with the fields used of them."""

    def __init__(self, roots: Names[str]) -> None:
        self._roots = roots
        self._variables: dict[tuple[Path, bool], str] = {}
        self._whole: set[str] = set()
        self.lookups: dict[str, Lookup] = {}
        self.spans: dict[Span, str] = {}
        self.names: set[str] = set()

    def visit(self, node: Node, bound: Mapping[str, Fields]) -> None:
        path = _chain(node.member) if isinstance(node, Has) else _chain(node)
        if path is not None:
            self._path(node, path, bound)
        elif isinstance(node, Comprehension):
            self._comprehension(node, bound)
        else:
            for part in children(node):
                self.visit(part, bound)

    def _path(self, node: Node, path: Path, bound: Mapping[str, Fields], each: Fields | None = None) -> None:
        root = str(path[0])
        exists = isinstance(node, Has)
        if root in bound:
            self.names.add(root)
            bound[root].add(path[1:], exists=exists)
            return
        if root in _TYPES and root not in self._roots:
            self.names.add(root)
            return
        if root not in self._roots:
            known = ", ".join((*self._roots, *bound))
            raise ValueError(f"expected one of {known}, got {root!r}{did_you_mean(root, (*self._roots, *bound))}")
        variable = self._variables.setdefault((path, exists), f"{_OWN}{len(self._variables)}")
        lookup = self.lookups.setdefault(variable, Lookup(path, exists))
        self.spans[(node.start, node.end)] = variable
        self.names.add(variable)
        if each is None:
            self._whole.add(variable)
        lookup.each = None if variable in self._whole else each

    def _comprehension(self, node: Comprehension, bound: Mapping[str, Fields]) -> None:
        if bound:
            raise ValueError(f"expected no comprehension inside another, got {node.kind}; use a node before this one")
        if node.variable.startswith(_OWN) or node.variable in _TYPES:
            raise ValueError(f"expected another name for the element than {node.variable}")
        each = Fields()
        each.whole = node.kind == "filter"  # it hands on what it keeps
        for part in node.body:
            self.visit(part, {node.variable: each})
        over = _chain(node.over)
        if over is None:
            self.visit(node.over, bound)
            return
        variable = self._variables.get((over, False))
        earlier = self.lookups[variable].each if variable is not None else None
        self._path(node.over, over, bound, _both(each, earlier))


def _both(one: Fields, other: Fields | None) -> Fields:
    if other is None:
        return one
    one.whole = one.whole or other.whole
    for key, fields in other.keys.items():
        one.keys[key] = _both(fields, one.keys.get(key))
    return one


def _source_list(tree: Node, spans: Mapping[Span, str]) -> str | None:
    node = tree
    while isinstance(node, Comprehension) and node.kind in ("map", "filter"):
        node = node.over
    variable = spans.get((node.start, node.end)) if node is not tree else None
    alone = sum(found == variable for found in spans.values()) == 1
    return variable if alone else None


def _chain(node: Node) -> Path | None:
    """The path that a node is: a name, then names and literal keys."""
    keys: list[Key] = []
    while True:
        match node:
            case Member(operand=operand, key=key):
                keys.append(key)
                node = operand
            case Index(operand=operand, index=Literal(value=str() | int() as value)):
                keys.append(value)
                node = operand
            case Name(name=name):
                return (name, *reversed(keys))
            case _:
                return None


def _check_call(call: Call) -> None:
    name = call.name
    if name in _OPERATORS or name in _FUNCTIONS or name in _METHODS:
        return
    known = _FUNCTIONS | _METHODS | {"has", "all", "exists", "exists_one", "filter", "map"}
    hint = did_you_mean(name, known) or f"; there are {', '.join(sorted(known))}"
    raise ValueError(f"expected a function that exists, got {name}(){hint}")


def _check_pattern(call: Call) -> int:
    pattern = call.arguments[1] if len(call.arguments) == 2 else None
    if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
        raise ValueError(
            r"expected text.matches(r'…') with a literal pattern (r'\d+' keeps its backslashes), got another"
        )
    try:
        return pattern_states(pattern.value)
    except TooMuch as error:
        raise ValueError(f"expected a smaller pattern, got {error}") from None


def _rewrite(source: str, spans: Mapping[Span, str]) -> str:
    pieces: list[str] = []
    position = 0
    for (start, end), variable in sorted(spans.items()):
        pieces += [source[position:start], variable]
        position = end
    return "".join([*pieces, source[position:]])
