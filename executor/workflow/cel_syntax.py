"""CEL source text as a small tree: what it names, how it nests, where in the text each part stands.

The `cel` package evaluates but shows no tree. This parser (grammar: cel-spec, "Syntax") exists to look, not
to evaluate: it knows precedence, strings, comments, macros and calls, and nothing of types. It refuses what
Headrace does not offer: messages, a leading dot, nesting deeper than `MAX_DEPTH`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NoReturn

import msgspec

MAX_DEPTH = 24
"""How deep brackets, calls and conditionals may nest. The evaluator's own parser gives up not far above."""
COMPREHENSIONS = {"all": 2, "exists": 2, "exists_one": 2, "existsOne": 2, "filter": 2, "map": 3}
"""The macros that visit each element, with the largest number of arguments."""

TOKEN = re.compile(
    r"""(?P<space>(?:[ \t\r\n\f]+|//[^\n]*)+)
    |(?P<string>(?:[rR][bB]?|[bB][rR]?)?(?:\"\"\"|'''|"|'))
    |(?P<number>0x[0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<op>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,\[\](){}])""",
    re.VERBOSE,
)
_LEVELS = (("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))
_BINARY = {operator: level for level, operators in enumerate(_LEVELS, 1) for operator in operators}
_WORDS = {"true", "false", "null"}


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the expression: the text from `start` to `end`."""

    start: int
    end: int


class Literal(Node, frozen=True):
    """A constant. `value` is set where a path or a pattern may use it: a plain or raw string, an integer."""

    value: str | int | None = None


class Name(Node, frozen=True):
    """A variable: a root of the scope, a comprehension's own, or the name of a type."""

    name: str


class Member(Node, frozen=True):
    """`operand.key`."""

    operand: Node
    key: str


class Index(Node, frozen=True):
    """`operand[index]`."""

    operand: Node
    index: Node


class Has(Node, frozen=True):
    """`has(operand.key)`."""

    member: Member


class Call(Node, frozen=True):
    """A function, a method (its receiver is the first argument) or an operator (`+`, `?:`)."""

    name: str
    arguments: tuple[Node, ...]


class Collection(Node, frozen=True):
    """A list or a map as it is written; the parts of a map are its keys and values in turn."""

    parts: tuple[Node, ...]


class Comprehension(Node, frozen=True):
    """`over.kind(variable, body…)`."""

    kind: str
    over: Node
    variable: str
    body: tuple[Node, ...]


class CelSyntaxError(ValueError):
    """The text is not an expression that Headrace offers."""


class Token(msgspec.Struct, frozen=True):
    """A token: its kind (`string`, `number`, `name`, `op`, `end`) and where it stands."""

    kind: str
    text: str
    start: int
    end: int


def tokens(source: str, position: int = 0) -> Iterator[Token]:
    """The tokens from `position` on, one at a time, without spaces and comments.

    Raises:
        CelSyntaxError: at the first character that starts none.
    """
    while position < len(source):
        match = TOKEN.match(source, position)
        if match is None:
            raise CelSyntaxError(f"expected CEL, got {source[position]!r} at character {position + 1}")
        kind, start, position = match.lastgroup or "", position, match.end()
        if kind == "string":
            position = _string_end(source, match[0], position)
        if kind != "space":
            yield Token(kind, source[start:position], start, position)
    yield Token("end", "the end", position, position)


def _string_end(source: str, opening: str, position: int) -> int:
    quote = opening.lstrip("rRbB")
    raw = "r" in opening.lower()
    while position < len(source):
        if source.startswith(quote, position):
            return position + len(quote)
        if len(quote) == 1 and source[position] == "\n":
            break
        position += 2 if source[position] == "\\" and not raw else 1
    raise CelSyntaxError(f"expected {quote} before the end, got none")


def parse(source: str) -> Node:
    """The tree of an expression.

    Raises:
        CelSyntaxError: with what was expected and what was got.
    """
    return _Parser(source).whole()


def children(node: Node) -> tuple[Node, ...]:
    """The parts of a node, from left to right."""
    match node:
        case Member(operand=operand):
            return (operand,)
        case Index(operand=operand, index=index):
            return (operand, index)
        case Has(member=member):
            return (member,)
        case Call(arguments=parts) | Collection(parts=parts):
            return parts
        case Comprehension(over=over, body=body):
            return (over, *body)
        case _:
            return ()


def walk(root: Node) -> Iterator[Node]:
    """All nodes. Without recursion, because `a + a + a…` is as deep as it is long."""
    left = [root]
    while left:
        node = left.pop()
        yield node
        left.extend(children(node))


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokens(source)
        self._next = next(self._tokens)
        self._last_end = 0
        self._depth = 0

    def whole(self) -> Node:
        tree = self._expression()
        if self._next.kind != "end":
            self._fail("an operator or the end")
        return tree

    def _fail(self, expected: str) -> NoReturn:
        raise CelSyntaxError(f"expected {expected}, got {self._next.text} at character {self._next.start + 1}")

    def _take(self) -> Token:
        token = self._next
        self._last_end = token.end
        self._next = next(self._tokens) if token.kind != "end" else token
        return token

    def _at(self, *texts: str) -> bool:
        return self._next.kind in ("op", "name") and self._next.text in texts

    def _expect(self, text: str) -> None:
        if not self._at(text):
            self._fail(text)
        self._take()

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CelSyntaxError(f"expected at most {MAX_DEPTH} levels of brackets, calls and conditionals, got more")
        tree = self._binary(1)
        if self._at("?"):
            self._take()
            yes = self._binary(1)
            self._expect(":")
            no = self._expression()
            tree = Call(name="?:", arguments=(tree, yes, no), start=tree.start, end=self._last_end)
        self._depth -= 1
        return tree

    def _binary(self, floor: int) -> Node:
        left = self._unary()
        while self._at(*_BINARY) and (level := _BINARY[self._next.text]) >= floor:
            operator = self._take().text
            right = self._binary(level + 1)
            left = Call(name=operator, arguments=(left, right), start=left.start, end=right.end)
        return left

    def _unary(self) -> Node:
        signs: list[Token] = []
        while self._at("!", "-"):
            signs.append(self._take())
        tree = self._member()
        if signs:  # one node for all: a thousand of them must not nest a thousand deep
            tree = Call(name=signs[0].text, arguments=(tree,), start=signs[0].start, end=tree.end)
        return tree

    def _member(self) -> Node:
        tree = self._primary()
        while self._at(".", "["):
            if self._take().text == "[":
                index = self._expression()
                self._expect("]")
                tree = Index(operand=tree, index=index, start=tree.start, end=self._last_end)
                continue
            if self._next.kind != "name" or self._next.text in _WORDS | {"in"}:
                self._fail("a name")
            key = self._take().text
            if self._at("("):
                tree = self._call(key, tree.start, tree)
            else:
                tree = Member(operand=tree, key=key, start=tree.start, end=self._last_end)
        return tree

    def _primary(self) -> Node:  # noqa: PLR0911  # one per kind of token
        token = self._take()
        match token.kind, token.text:
            case "string", text:
                return Literal(value=_plain(text), start=token.start, end=token.end)
            case "number", text:
                return Literal(value=int(text) if text.isdecimal() else None, start=token.start, end=token.end)
            case "name", text if text in _WORDS:
                return Literal(start=token.start, end=token.end)
            case "name", text if text != "in":
                if self._at("("):
                    return self._call(text, token.start, None)
                if self._at("{"):
                    raise CelSyntaxError(f"expected no messages, got {text}{{")
                return Name(name=text, start=token.start, end=token.end)
            case "op", "(":
                tree = self._expression()
                self._expect(")")
                # The brackets belong to the text of what they hold: it is replaced as a whole.
                return msgspec.structs.replace(tree, start=token.start, end=self._last_end)
            case "op", "[":
                return Collection(parts=self._list("]", comma_last=True), start=token.start, end=self._last_end)
            case "op", "{":
                return self._map(token.start)
        raise CelSyntaxError(f"expected a value, got {token.text} at character {token.start + 1}")

    def _list(self, closing: str, *, comma_last: bool) -> tuple[Node, ...]:
        parts: list[Node] = []
        while not self._at(closing):
            parts.append(self._expression())
            if not self._at(closing):
                self._expect(",")
                if self._at(closing) and not comma_last:
                    self._fail("a value")
        self._take()
        return tuple(parts)

    def _map(self, start: int) -> Node:
        parts: list[Node] = []
        while not self._at("}"):
            parts.append(self._expression())
            self._expect(":")
            parts.append(self._expression())
            if not self._at("}"):
                self._expect(",")
        self._take()
        return Collection(parts=tuple(parts), start=start, end=self._last_end)

    def _call(self, name: str, start: int, receiver: Node | None) -> Node:
        self._take()
        arguments = self._list(")", comma_last=False)
        end = self._last_end
        if receiver is None and name == "has":
            if len(arguments) != 1 or not isinstance(arguments[0], Member):
                raise CelSyntaxError("expected has(a.b), a path that ends with a name, got another argument")
            return Has(member=arguments[0], start=start, end=end)
        if receiver is not None and 2 <= len(arguments) <= COMPREHENSIONS.get(name, 0):
            variable = arguments[0]
            if not isinstance(variable, Name):
                raise CelSyntaxError(f"expected a name as the first argument of {name}, got something else")
            return Comprehension(
                kind=name, over=receiver, variable=variable.name, body=arguments[1:], start=start, end=end
            )
        parts = arguments if receiver is None else (receiver, *arguments)
        return Call(name=name, arguments=parts, start=start, end=end)


def _plain(text: str) -> str | None:
    """A string literal's value, where it is plain to see: no bytes, no escapes but `\\\\` and quotes."""
    prefix = text[: len(text) - len(text.lstrip("rRbB"))].lower()
    inner = text[len(prefix) :]
    inner = inner[3:-3] if inner[:3] in ('"""', "'''") else inner[1:-1]
    if "b" in prefix:
        return None
    if "r" in prefix or "\\" not in inner:
        return inner
    if re.search(r"\\[^\\\"']", re.sub(r"\\\\", "", inner)):
        return None
    return re.sub(r"\\(.)", r"\1", inner)
