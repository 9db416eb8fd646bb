"""Reading a document field by field, so that all its faults are told at once.

A `Reader` stands at a path of the document. Each method takes one field and gives its value or, after noting
a fault, the default, so that reading goes on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from events.settings import parse_duration
from executor.workflow.wording import did_you_mean, shown

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_DAY = 86_400.0


class Reader:
    """A mapping in the document and the path to it.

    Args:
        known: the keys that it may have. Any other is a fault.
        told: keys that are wrong here for a reason that is told elsewhere.
    """

    def __init__(
        self, path: str, value: Any, known: Collection[str], faults: list[str], told: Collection[str] = ()
    ) -> None:
        self.path = path
        self.faults = faults
        self.values: Mapping[str, Any] = {}
        if not isinstance(value, Mapping):
            self.faults.append(f"{path or 'document'}: expected keys and values, got {shown(value)}")
            return
        self.values = {str(key): part for key, part in value.items()}
        for key in self.values:
            if key not in known and key not in told:
                hint = did_you_mean(key, known) or f"; there are {', '.join(known)}"
                self.fault(key, f"expected a known key, got {key!r}{hint}")

    def at(self, key: str) -> str:
        """The path of a field."""
        return f"{self.path}.{key}" if self.path else key

    def fault(self, key: str, text: str) -> None:
        """Notes that a field is wrong."""
        self.faults.append(f"{self.at(key)}: {text}")

    def text(self, key: str, default: str | None = None) -> str | None:
        """A text that is not empty."""
        value = self.values.get(key, default)
        if value is default or (isinstance(value, str) and value.strip()):
            return value
        self.fault(key, f"expected text, got {shown(value)}")
        return default

    def name(self, key: str, pattern: re.Pattern[str] = NAME) -> str:
        """A required name; "" after a fault."""
        value = self.values.get(key)
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        got = shown(value) if key in self.values else "nothing"
        self.fault(key, f"expected a name of letters, digits, - and _ that starts with a letter, got {got}")
        return ""

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        """One of several words."""
        value = self.values.get(key, default)
        if isinstance(value, str) and value in choices:
            return value
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        self.fault(key, f"expected one of {', '.join(choices)}, got {shown(value)}{hint}")
        return default

    def duration(self, key: str, *, most: float = 366 * _DAY) -> float | None:
        """Seconds, more than 0 and at most `most`; None where the field is not there."""
        if key not in self.values:
            return None
        value = self.values[key]
        try:
            seconds = parse_duration(value) if isinstance(value, str | int | float) else math.nan
        except ValueError:
            seconds = math.nan
        if isinstance(value, bool) or not 0 < seconds <= most:
            self.fault(key, f"expected a duration such as 30s, 5m or 24h, up to {most / _DAY:g}d, got {shown(value)}")
            return None
        return seconds

    def number(self, key: str, default: float, *, least: float, most: float) -> float:
        """A number within bounds."""
        value = self.values.get(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return float(value)
        self.fault(key, f"expected a number from {least:g} to {most:g}, got {shown(value)}")
        return default

    def whole(self, key: str, default: int, *, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self.values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.fault(key, f"expected a whole number from {least} to {most}, got {shown(value)}")
        return default

    def items(self, key: str) -> list[Any]:
        """A list; empty where the field is not there."""
        value = self.values.get(key, [])
        if isinstance(value, list | tuple):
            return list(value)
        self.fault(key, f"expected a list, got {shown(value)}")
        return []

    def words(self, key: str) -> tuple[str, ...]:
        """A list of texts, each once."""
        words: list[str] = []
        for index, value in enumerate(self.items(key)):
            if not isinstance(value, str) or not value:
                self.fault(f"{key}[{index}]", f"expected text, got {shown(value)}")
            elif value in words:
                self.fault(f"{key}[{index}]", f"expected each once, got {value!r} again")
            else:
                words.append(value)
        return tuple(words)
