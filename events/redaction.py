"""What may be said in a log record: everything but secrets, bodies and objects that nobody has looked at.

- A value under a key that looks secret is replaced, whatever it is and however deep.
- In every text: the user and password of a URL, credentials after `Bearer`, `Basic` or `whsec_`, and what is
  assigned to a name that looks secret (`token=…`, `"password": "…"`, `Authorization: …`).
- Bytes are shown by their number, objects that are not data by their type: a repr may hold anything.

What comes out is plain JSON-like data of a bounded size, and nothing here raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence, Set
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from itertools import islice
from pathlib import PurePath
from typing import Any
from uuid import UUID

REDACTED = "[redacted]"
TEXT_LIMIT = 8_192
"""Characters of one text that are shown."""
DEPTH_LIMIT = 8
ITEMS_LIMIT = 100
"""Values in one list, or entries in one mapping within the record, that are shown."""
SIZE_LIMIT = 2_000
"""Values in one record that are shown, beside its own entries."""

_WORDS = (
    *("secret", "passw", "pwd", "passphrase", "token", "authorization", "credential", "signature", "cookie"),
    *("body", "apikey", "api_key", "api-key", "privatekey", "private_key", "private-key"),
)
_ANY_WORD = "|".join(_WORDS)
_NOT_IN_A_WORD = re.compile(r"[^a-z0-9]+")
_HINTS = (*_WORDS, "://", "bearer", "basic", "whsec_")

# Repetitions are bounded where they can overlap: a hostile text costs milliseconds and not minutes.
# The user's part of a URL ends at an @ before the path; an unescaped password may hold / and @ itself.
_USER_OF_URL = re.compile(r"://(?:[^\s/?#@:]{0,256}:\S{0,2048}|[^\s/?#]{0,2048})@")
_CUT_URL = re.compile(r"://\S{0,4096}$")
_CREDENTIALS = re.compile(r"\b(bearer\s{1,8}|basic\s{1,8}|whsec_)[\w.~+/=-]+", re.IGNORECASE)
_HEADER = re.compile(r"\b(authorization|cookie)(\s{0,8}:\s{0,8})[^\r\n]+", re.IGNORECASE)
# A key, as `key=`, `"key":` or `("key",`, then its value: what brackets hold (to the end: nobody counts them
# here), what quotes hold, or a word. Also where all this is in a JSON text in a JSON text.
_ASSIGNED = re.compile(
    rf"((?:{_ANY_WORD})[\w-]{{0,32}}(?:\\{{0,8}}[\"']\s{{0,8}}[:,]|\s{{0,8}}=)\s{{0,8}}b?)"
    r"(?:[\w.]{0,64}[\[({<].*|\\{0,8}([\"'])(?:\\.|(?!\2)[^\\])*|[^\s\"'&,;)}\]]+)",
    re.IGNORECASE | re.DOTALL,
)
_SHOWN_AS_TEXT = (UUID, date, time, timedelta, Decimal, PurePath, Enum)


@lru_cache(maxsize=4096)
def looks_secret(key: str) -> bool:
    """Whether what is kept under this key must not be shown: `api_key`, `X-Api-Key`, `dbPassword`, `body`."""
    bare = _NOT_IN_A_WORD.sub("", key.lower())
    return any(word in bare for word in _WORDS)


def masked(text: str) -> str:
    """The text without the credentials that can be told by their form, cut to `TEXT_LIMIT`."""
    if len(text) > TEXT_LIMIT:
        text = _CUT_URL.sub("://" + REDACTED, text[:TEXT_LIMIT]) + "…"
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):  # nearly always, and ten times as fast
        return text
    text = _USER_OF_URL.sub(f"://{REDACTED}@", text)
    text = _HEADER.sub(rf"\1\2{REDACTED}", text)
    text = _CREDENTIALS.sub(rf"\1{REDACTED}", text)
    return _ASSIGNED.sub(rf"\1{REDACTED}", text)


def redacted(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as it may be shown."""
    return _Walk().mapping(record, 0)


class _Walk:
    """One walk over a record. It ends, also over what contains itself."""

    def __init__(self) -> None:
        self._room = SIZE_LIMIT

    def mapping(self, values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for key, value in values.items():
            if depth and len(shown) >= ITEMS_LIMIT:
                shown["…"] = f"{len(values) - ITEMS_LIMIT} more"
                break
            name = key.decode("latin-1") if isinstance(key, bytes) else str(self.value(key, depth + 1))
            shown[masked(name)] = REDACTED if looks_secret(name) else self.value(value, depth + 1)
        return shown

    def value(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - a table
        self._room -= 1
        match value:
            case None | bool() | int():
                return value
            case float():
                return value if math.isfinite(value) else str(value)  # JSON has no word for it
            case str():
                return masked(value)
            case bytes() | bytearray() | memoryview():
                return f"<{len(value)} bytes>"
            case Mapping() | Sequence() | Set() if depth >= DEPTH_LIMIT or self._room <= 0:
                return "…"
            case Mapping():
                return self.mapping(value, depth)
            case [str() | bytes() as key, _] if looks_secret(key if isinstance(key, str) else key.decode("latin-1")):
                return [self.value(key, depth + 1), REDACTED]  # a header, for instance
            case Sequence() | Set():
                return self._sequence(value, depth)
            case BaseException():
                return f"{type(value).__name__}: {_text(value)}"
            case _:
                return _text(value) if isinstance(value, _SHOWN_AS_TEXT) else f"<{type(value).__name__}>"

    def _sequence(self, values: Sequence[Any] | Set[Any], depth: int) -> list[Any]:
        shown = [self.value(value, depth + 1) for value in islice(values, ITEMS_LIMIT)]
        if len(values) > ITEMS_LIMIT:
            shown.append(f"… {len(values) - ITEMS_LIMIT} more")
        return shown


def _text(value: object) -> str:
    try:
        return masked(str(value))
    except Exception:  # a foreign __str__ may do anything
        return "(its text cannot be read)"
