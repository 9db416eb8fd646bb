"""Expressions (CEL): compiled once, evaluated against a scope, unable to stall a worker.

    Expression("event.body.amount > 1000 && has(event.body.customer)").evaluate(scope)

Promises:
- Only what an expression names is converted: each path into the scope (`event.body.items[0].id`) is looked
  up in Python and becomes one variable of the CEL program. A comprehension's list is cut down to the fields
  that its body names. What is missing is missing for CEL too: `has`, `||`, `? :` see what the scope is.
- An expression that is only a path never enters CEL: its value is passed on as it is, large integers too.
- What is wrong with the text shows when it is compiled (`cel_uses`); what is too much for the data shows
  before it is evaluated (`cel_cost`). All of it is an `ExpressionError`.
- Text in, value out: no I/O, no clock. Threads that evaluate need stacks of 2 MB (the usual is 8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import cel
import msgspec

from executor.workflow.cel_cost import MAX_WORK, Size, TooMuch, bound, check_elements, conversion, measure
from executor.workflow.cel_uses import Analysis, Key, Lookup, analyse, path_text
from executor.workflow.outcomes import NodeError
from executor.workflow.wording import kind_of

SCOPE = ("event", "events", "run", "nodes", "input")
"""The roots that a node's expressions may name; `events` only where runs are made of batches."""
ITEM_ROOTS = (*SCOPE, "item", "index")
"""Those of the nodes inside a `map`."""
ENDING_ROOTS = (*SCOPE, "error")
"""Those of compensations and of `on_error`: `error` is why the run fails."""
MATCH_ROOTS = (*SCOPE, "trigger", "item", "index")
"""Those of the `match` of a `wait.event`: there `event` is the awaited delivery and `trigger` the run's own."""
TRIGGER_ROOTS = ("event",)
"""Those of what decides whether and how a delivery starts a run."""
MAX_RESULT = 1 << 20
"""Bytes, as JSON, that an expression may make. A plain path is not limited: it makes nothing."""

_PIECE = 32
_UNDEFINED = re.compile(r"Undefined variable or function: '(\w+)'")
_NATIVE = (datetime, timedelta, bytes)
_PLAIN = frozenset({str, int, float, bool, type(None)})
_JSON = _PLAIN | {dict, list}


class ExpressionError(NodeError):
    """An expression cannot be compiled or evaluated: which one, what was expected, what came."""

    def __init__(self, message: str) -> None:
        super().__init__("expression", message)


class _Missing(Exception):
    """A path leads nowhere in this scope."""


class Expression:
    """A CEL expression, compiled.

    Args:
        source: at most 2,000 characters.
        roots: the names that the scope has.

    Raises:
        ExpressionError: it is not CEL, names what is unknown, or may not be published (see `cel_uses`).
    """

    __slots__ = ("_analysis", "_program", "paths", "source")
    _analysis: Analysis
    _program: cel.Program | None  # None: it is only a path

    def __init__(self, source: str, roots: Iterable[str] = SCOPE) -> None:
        self.source = source
        try:
            self._analysis = analysis = analyse(source, tuple(roots))
        except ValueError as error:
            raise ExpressionError(f"{_short(source)}: {error}") from None
        self._program = None
        try:
            if analysis.path is None:
                self._program = cel.compile(analysis.rewritten)
                analysis.agree(self._program.variables(), self._program.functions())
        except ValueError as error:
            raise ExpressionError(f"{_short(source)}: {_first_line(self._own_words(str(error)))}") from None
        self.paths: tuple[tuple[Key, ...], ...] = self._analysis.paths
        """Every path that it names, for example `("nodes", "customer", "output", "name")`."""

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value in this scope, JSON-like (timestamps as RFC 3339 text, durations as ISO 8601).

        Raises:
            ExpressionError: a path is missing, types do not fit, or it would cost too much.
        """
        program = self._program
        if program is None:
            return self._resolved(scope, self._analysis.path or ())
        missing_paths: dict[str, str] = {}
        values: dict[str, Any] = {}
        try:
            for variable, lookup in self._analysis.lookups.items():
                try:
                    values[variable] = _look_up(scope, lookup)
                except _Missing as missing:
                    missing_paths[variable] = str(missing)
            whole = values.get(self._analysis.source_list or "")
            if isinstance(whole, list) and len(whole) > _PIECE:
                return _outgoing(self._by_pieces(program, values, whole))
            self._bound(values)
            return _outgoing(program.execute(values))
        except TooMuch as error:
            raise self._error("less to compute", str(error)) from None
        except RecursionError:
            raise self._error("values nested less deep", "one nested over hundreds of levels") from None
        except Exception as error:
            raise self._translated(error, missing_paths) from None

    def _resolved(self, scope: Mapping[str, Any], path: tuple[Key, ...]) -> Any:
        try:
            value = _resolve(scope, path)
            if type(value) in _JSON:
                return value
            return msgspec.to_builtins(dict(value) if isinstance(value, Mapping) else value, str_keys=True)
        except _Missing as missing:
            raise self._error(f"a value at {path_text(path)}", str(missing)) from None

    def _by_pieces(self, program: cel.Program, values: dict[str, Any], whole: list[Any]) -> list[Any]:
        """`map` and `filter` copy what they have built for each element: by pieces, the copies stay small."""
        check_elements("map or filter", len(whole))
        variable = self._analysis.source_list or ""
        result: list[Any] = []
        spent = 0.0
        for start in range(0, len(whole), _PIECE):
            piece = {**values, variable: whole[start : start + _PIECE]}
            spent = self._bound(piece, spent)
            result += program.execute(piece)
        return result

    def _bound(self, values: dict[str, Any], spent: float = 0.0) -> float:
        """The nanoseconds that these values may cost, and those spent before.

        Raises:
            TooMuch: they are too many.
        """
        sizes = {variable: measure(value) for variable, value in values.items()}
        total = spent + conversion(list(sizes.values()))
        analysis = self._analysis
        if analysis.plain and total * len(analysis.parts) ** 2 < MAX_WORK:
            return total  # neither loop nor pattern: at most, each part copies all values once for each part
        missing = Size(0.0, 0.0, 0.0)  # never evaluated beyond its name
        by_span = {span: sizes.get(variable, missing) for span, variable in analysis.spans.items()}
        return bound(analysis.tree, lambda node: by_span.get((node.start, node.end)), analysis.patterns, total)

    def _translated(self, error: Exception, missing: Mapping[str, str]) -> ExpressionError:
        text = str(error)
        undefined = _UNDEFINED.search(text)
        if undefined is not None:
            name = undefined[1]
            if name in missing:
                return self._error(f"a value at {path_text(self._analysis.lookups[name].path)}", missing[name])
            return self._error(f"arguments that fit {name}()", "others")
        if isinstance(error, KeyError):
            return self._error("a key that is there", f"no such key {text.strip(chr(39))!r}")
        return self._error("values that fit", _first_line(self._own_words(text)).split(". CEL does not", 1)[0])

    def _own_words(self, text: str) -> str:
        """The message with paths in place of the variables that stand for them."""
        lookups = self._analysis.lookups
        return re.sub(r"\b__h\d+\b", lambda m: path_text(lookups[m[0]].path) if m[0] in lookups else m[0], text)

    def _error(self, expected: str, got: str) -> ExpressionError:
        return ExpressionError(f"{_short(self.source)}: expected {expected}, got {got[:300]}")


def _resolve(value: Any, path: tuple[Key, ...]) -> Any:
    for depth, key in enumerate(path):
        kind = type(value)
        if kind is dict or (kind not in _JSON and isinstance(value, Mapping)):
            if key not in value:
                raise _Missing(f"no such key {key!r}" + (f" in {path_text(path[:depth])}" if depth else ""))
            value = value[key]
        elif kind is list and type(key) is int:
            if key >= len(value):
                raise _Missing(f"no such index {key}: {path_text(path[:depth])} has {len(value)} elements")
            value = value[key]
        elif kind not in _JSON and type(plain := _builtin(value)) in _JSON:
            return _resolve(plain, path[depth:])  # a Struct or a tuple
        else:
            raise _Missing(f"{kind_of(value)} at {path_text(path[:depth])}")
    return value


def _builtin(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = dict(value)
    return msgspec.to_builtins(value, builtin_types=_NATIVE, str_keys=True)


def _look_up(scope: Mapping[str, Any], lookup: Lookup) -> Any:
    """The value of a variable, ready for CEL."""
    if lookup.exists:
        *parent, last = lookup.path
        holder = _resolve(scope, tuple(parent))
        if type(holder) not in _JSON and not isinstance(holder, Mapping):
            holder = _builtin(holder)
        if not isinstance(holder, Mapping):
            raise _Missing(f"{kind_of(holder)} at {path_text(tuple(parent))}")
        return last in holder
    value = _resolve(scope, lookup.path)
    if type(value) in _PLAIN:
        return value
    if lookup.each is not None and isinstance(value, list):
        value = [lookup.each.cut(element) for element in value]
    return _builtin(value)


def _outgoing(value: Any) -> Any:
    if isinstance(value, bool | int | float | None):
        return value
    size = len(msgspec.json.encode(value))
    if size > MAX_RESULT:
        raise TooMuch(f"a result of {size:,} bytes as JSON; at most {MAX_RESULT:,} are allowed")
    return msgspec.to_builtins(value, str_keys=True)


def _first_line(text: str) -> str:
    """The cel package's parse errors come with a preamble, the position and a drawing of the line."""
    preamble = r"^Failed to parse expression '.*?': ERROR: <input>:\d+:\d+: "
    text = re.sub(preamble, "expected CEL, got: ", text, flags=re.DOTALL)
    return text.split("\n", 1)[0][:500]


def _short(source: str) -> str:
    return source if len(source) <= 200 else source[:200] + "…"
