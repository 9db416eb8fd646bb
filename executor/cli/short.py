"""Values of others on the reader's screen: short, and without what a terminal would obey."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

SHORT = 100
"""Characters of an output or an error in a history."""


def shortened(value: object, encode: Callable[[object], bytes] = msgspec.json.encode) -> str:
    """A value on one line, at most `SHORT` characters of it; what is not text as JSON."""
    text = value if isinstance(value, str) else encode(value).decode()
    text = printable(" ".join(text.split()))
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


def printable(text: str) -> str:
    """The text without what a terminal would obey: senders do not get to write on the reader's screen."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)
