"""Reads a mapping that people wrote, key by key, and collects what is wrong with it instead of stopping.

Promises: nothing here raises; a key that no one asked for is a fault, with the nearest known key as a
suggestion.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

_Choice = TypeVar("_Choice", bound=str)
_KINDS = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    type(None): "nothing",
}


def got(value: Any) -> str:
    """A value as a fault shows it: at most 60 characters. Not for secrets."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def got_kind(value: Any) -> str:
    """The kind of a value that may be a secret, or hold one: keys are shown, values are not."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: …" for key in value) + "}"
    if value == "":
        return "empty text"
    return _KINDS.get(type(value), "something else")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing if no known word is near."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


class Section:
    """One mapping of a document. `path` stands before its faults; all sections share one list of `faults`."""

    def __init__(self, path: str, document: Any, known: tuple[str, ...], faults: list[str]) -> None:
        self.path = path
        self.faults = faults
        self._values: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
        if not isinstance(document, Mapping):
            self.fault("", f"a mapping with {', '.join(known)}", got_kind(document))
        for key in self._values:
            if key not in known:
                hint = did_you_mean(str(key), known)
                self.fault(str(key)[:60], f"one of {', '.join(known)}", "an unknown key" + hint)

    def section(self, key: str, document: Any, known: tuple[str, ...]) -> Section:
        """The mapping at a key."""
        return Section(self._at(key), document, known, self.faults)

    def fault(self, key: str, expected: str, found: str) -> None:
        """Notes a fault at a key of this section."""
        self.faults.append(f"{self._at(key) or 'document'}: expected {expected}, got {found}")

    def value(self, key: str) -> Any:
        """The value at a key, or None."""
        return self._values.get(key)

    def text(self, key: str, default: str = "") -> str:
        """The text at a key; anything else is a fault."""
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fault(key, "text", got(value))
            return default
        return value

    def matching(self, key: str, pattern: re.Pattern[str], expected: str, *, required: bool = False) -> str:
        """The text at a key, which the whole pattern must match; empty if it is absent."""
        value = self.value(key)
        if value is None and not required:
            return ""
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        self.fault(key, expected, got(value))
        return ""

    def choice(self, key: str, options: tuple[_Choice, ...], *, required: bool = False) -> _Choice | None:
        """The text at a key, which must be one of the options; None if it is absent or another."""
        value = self.value(key)
        for option in options:
            if value == option:
                return option
        if value is not None or required:
            hint = did_you_mean(value, options) if isinstance(value, str) else ""
            self.fault(key, f"one of {', '.join(options)}", got(value) + hint)
        return None

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path and key else self.path or key
