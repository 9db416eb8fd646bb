"""YAML to JSON-like values, as people mean it: YAML 1.2's plain words, not 1.1's.

`on`, `yes` and `no` are text (true and false are true and false), dates and `1:30` are text, a key that
stands twice is a fault, tags and merge keys are refused. Aliases may repeat a part, but what comes out is
bounded, so a text of few lines cannot become millions of values.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from events.errors import ConfigError
from executor.workflow.definition import MAX_DEPTH

MAX_TEXT = 1 << 20
"""Bytes of one text."""
MAX_VALUES = 200_000
"""Keys and values in one text, repeated parts counted each time."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,4000}")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,4000}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,4})?")


def load_yaml(text: str) -> list[dict[str, Any]]:
    """The documents of a YAML text; empty ones are left out.

    Raises:
        ConfigError: not YAML, a document that is no mapping, a key that stands twice, too large; with lines.
    """
    if len(text) > MAX_TEXT or len(text.encode()) > MAX_TEXT:
        raise ConfigError("yaml", [f"text: expected at most {MAX_TEXT:,} bytes, got {len(text.encode()):,}"])
    try:
        _check_depth(text)
        roots = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "text"
        raise ConfigError("yaml", [f"{where}: expected YAML, got: {error.problem or error.context}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError("yaml", [f"text: expected YAML, got: {str(error).splitlines()[0]}"]) from None
    reading = _Reading()
    documents = [reading.document(root) for root in roots]
    if reading.faults:
        raise ConfigError("yaml", reading.faults)
    return [document for document in documents if document is not None]


def _check_depth(text: str) -> None:
    """Before anything is composed: the composer recurses in C, and would end the process."""
    depth = 0
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark is not None else 0
                raise ConfigError("yaml", [f"line {line}: expected at most {MAX_DEPTH} levels, got more"])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _compose(text: str) -> list[yaml.Node]:
    loader = _LOADER(text)
    loader.yaml_implicit_resolvers = {}  # every plain word arrives as text; `_scalar` says what it means
    try:
        roots = []
        while loader.check_node():
            roots.append(loader.get_node())
        return roots
    finally:
        loader.dispose()


class _Full(Exception):
    """Enough faults, or too many values: reading stops."""


class _Reading:
    def __init__(self) -> None:
        self.faults: list[str] = []
        self._values = 0

    def document(self, root: yaml.Node) -> dict[str, Any] | None:
        try:
            value = self._value(root, 0)
        except _Full:
            return None
        if value is None or isinstance(value, dict):
            return value
        self._fault(root, "expected a document of keys and values, got another")
        return None

    def _fault(self, node: yaml.Node, text: str) -> None:
        self.faults.append(f"line {node.start_mark.line + 1}: {text}")
        if len(self.faults) >= 100:
            raise _Full

    def _value(self, node: yaml.Node, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            limit = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_VALUES:,} values"
            self.faults.append(f"line {node.start_mark.line + 1}: expected at most {limit}, got more")
            raise _Full
        standard = f"tag:yaml.org,2002:{_KIND[type(node)]}"
        if node.tag not in (standard, "!"):
            self._fault(node, f"expected no tags, got {node.tag.replace('tag:yaml.org,2002:', '!!')}")
        match node:
            case yaml.ScalarNode():
                return node.value if node.style or node.tag == "!" else _scalar(node.value)
            case yaml.SequenceNode():
                return [self._value(part, depth + 1) for part in node.value]
            case yaml.MappingNode():
                return self._mapping(node, depth)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, part in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fault(key, "expected text as a key, got a list or a mapping")
            elif key.value == "<<":
                self._fault(key, "expected no merge key, got <<; write the keys out")
            elif key.value in made:
                self._fault(key, f"expected each key once, got {key.value!r} again")
            else:
                made[key.value] = self._value(part, depth + 1)
        return made


_KIND = {yaml.ScalarNode: "str", yaml.SequenceNode: "seq", yaml.MappingNode: "map"}


def _scalar(text: str) -> str | int | float | bool | None:
    """A plain word by YAML 1.2's core schema, without octals and infinities."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text
