"""The wording that faults share: what a name may have meant, and what a value is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

_KINDS = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean x?`, or nothing where no known name is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def kind_of(value: Any) -> str:
    """What a JSON-like value is, in words: `text`, `a list`, `null`."""
    return _KINDS.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    """A value as a fault shows it: scalars as they are (at most 80 characters), others by their kind."""
    if isinstance(value, list | dict) or value is None:
        return kind_of(value)
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
