"""Templates: JSON-like values whose strings may hold `${{ expression }}`.

    Template({"id": "${{ event.body.id }}", "text": "order ${{ event.body.id }} came in"}).render(scope)

A string that is one `${{ }}` and nothing else becomes the expression's value with its type. In a longer
string values are joined as text: null as nothing, numbers plainly, objects and lists as JSON. `$${{` stands
for `${{` itself. Parts without expressions are handed on as they are, the same object each time: do not
change them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from executor.workflow.cel_syntax import CelSyntaxError, tokens
from executor.workflow.expressions import SCOPE, Expression, ExpressionError

MAX_EXPRESSIONS = 1_000
"""Expressions in one template."""
MAX_TEXT = 4 << 20
"""Characters that one string may have once it is joined."""

_OPEN = "${{"

Render = Callable[[Mapping[str, Any]], Any]


class Template:
    """A value with expressions in it, compiled.

    Args:
        value: JSON-like. Keys are taken as they are.
        roots: the names that the scope has.

    Raises:
        TemplateError: expressions are wrong or not closed; all of them, each with its path in the value.
    """

    __slots__ = ("_render", "expressions", "value")

    def __init__(self, value: Any, roots: Iterable[str] = SCOPE) -> None:
        compiler = _Compiler(tuple(roots))
        self.value = value
        """As it was written."""
        self._render: Render | None = compiler.compile(value, "")
        if compiler.faults:
            raise TemplateError(compiler.faults)
        self.expressions: tuple[Expression, ...] = tuple(compiler.expressions)
        """All expressions, in the order of the text."""

    def render(self, scope: Mapping[str, Any]) -> Any:
        """The value with every expression evaluated.

        Raises:
            ExpressionError: one cannot be evaluated in this scope.
        """
        return self.value if self._render is None else self._render(scope)


class TemplateError(ExpressionError):
    """One or more expressions of a template are wrong. `faults` holds (path in the value, text) pairs."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{path}: {text}" if path else text for path, text in faults))


def has_expressions(value: Any) -> bool:
    """Whether a string somewhere in the value holds `${{`."""
    match value:
        case str():
            return _OPEN in value.replace("$" + _OPEN, "")
        case dict():
            return any(map(has_expressions, value.values()))
        case list():
            return any(map(has_expressions, value))
        case _:
            return False


class _Compiler:
    """Turns a value into a function of the scope, or into None where it holds no expression."""

    def __init__(self, roots: tuple[str, ...]) -> None:
        self._roots = roots
        self.expressions: list[Expression] = []
        self.faults: list[tuple[str, str]] = []

    def compile(self, value: Any, path: str) -> Render | None:
        match value:
            case str() if _OPEN in value:
                return self._text(value, path)
            case dict():
                return self._members(value, path)
            case list():
                return self._elements(value, path)
            case _:
                return None

    def _members(self, value: dict[str, Any], path: str) -> Render | None:
        made: dict[str, Render] = {}
        for key, part in value.items():
            render = self.compile(part, f"{path}.{key}" if path else str(key))
            if render is not None:
                made[key] = render
        if not made:
            return None
        return lambda scope: {key: made[key](scope) if key in made else part for key, part in value.items()}

    def _elements(self, value: list[Any], path: str) -> Render | None:
        made = [self.compile(part, f"{path}[{index}]") for index, part in enumerate(value)]
        if not any(made):
            return None
        pairs = list(zip(made, value, strict=True))
        return lambda scope: [part if render is None else render(scope) for render, part in pairs]

    def _text(self, text: str, path: str) -> Render | None:
        try:
            pieces = list(_split(text))
        except CelSyntaxError as error:
            self.faults.append((path, str(error)))
            return None
        parts: list[str | Expression] = []
        for literal, source in pieces:
            if source is None:
                parts.append(literal)
                continue
            try:
                parts.append(self._expression(source))
            except ExpressionError as error:
                self.faults.append((path, str(error)))
        if len(parts) == 1 and isinstance(parts[0], Expression):
            return parts[0].evaluate
        return lambda scope: _joined(parts, scope)

    def _expression(self, source: str) -> Expression:
        if len(self.expressions) >= MAX_EXPRESSIONS:
            raise ExpressionError(f"expected at most {MAX_EXPRESSIONS:,} expressions in one value, got more")
        expression = Expression(source, self._roots)
        self.expressions.append(expression)
        return expression


def _split(text: str) -> Iterable[tuple[str, str | None]]:
    """(text, None) for what is literal and ("", source) for each expression.

    Raises:
        CelSyntaxError: a `${{` without its `}}`, or a character between them that is not CEL.
    """
    literal = ""
    position = 0
    while (found := text.find(_OPEN, position)) >= 0:
        literal += text[position:found]
        if text[found - 1 : found] == "$" and found > position:
            literal = literal[:-1] + _OPEN
            position = found + len(_OPEN)
            continue
        end = _close(text, found + len(_OPEN))
        if literal:
            yield literal, None
        yield "", text[found + len(_OPEN) : end].strip()
        literal, position = "", end + 2
    if literal or position < len(text):
        yield literal + text[position:], None


def _close(text: str, position: int) -> int:
    """Where the `}}` stands that closes an expression: not one inside a string, nor the end of a map."""
    depth = 0
    for token in tokens(text, position):
        if token.text == "{" and token.kind == "op":
            depth += 1
        elif token.text == "}" and token.kind == "op":
            if depth == 0 and text.startswith("}}", token.start):
                return token.start
            depth -= 1
    raise CelSyntaxError("expected }} after ${{, got none; write $${{ for the characters themselves")


def _joined(parts: list[str | Expression], scope: Mapping[str, Any]) -> str:
    pieces: list[str] = []
    left = MAX_TEXT
    for part in parts:
        piece = part if isinstance(part, str) else _as_text(part.evaluate(scope))
        left -= len(piece)
        if left < 0:
            raise ExpressionError(f"expected a text of at most {MAX_TEXT:,} characters, got more")
        pieces.append(piece)
    return "".join(pieces)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()
