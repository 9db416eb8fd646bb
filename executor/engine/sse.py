"""Server-sent events: the data of each event, from bytes as they come (WHATWG HTML, "Parsing an event stream").

Only `data` is told; names, ids and comments (heartbeats) are not. Memory is bounded by the largest event; time by the
bytes that came, however they were cut.
"""

from __future__ import annotations

import re

LARGEST = 1 << 20
"""Bytes that one event, or one line, may have."""
_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventReader:
    """Takes bytes, gives events."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._pieces: list[bytes] = []  # of the line that has not ended
        self._unended = 0
        self._data: list[bytes] = []  # of the event that has not ended
        self._size = 0
        self._after_return = False
        self._began = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that these bytes complete.

        Raises:
            ValueError: an event is too large.
        """
        if self._after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_return = False
        if not chunk:
            return []
        self._after_return = chunk.endswith(b"\r")
        *lines, rest = _END.split(chunk)
        if lines:
            lines[0] = b"".join([*self._pieces, lines[0]])
            self._pieces, self._unended = [], 0
        self._pieces.append(rest)
        self._unended += len(rest)
        found = [event for line in lines if (event := self._line(line)) is not None]
        self._check(self._unended)
        return found

    def _line(self, line: bytes) -> bytes | None:
        if not self._began:
            self._began = True
            line = line.removeprefix(_BOM)
        if not line:
            data, self._data, self._size = self._data, [], 0
            return b"\n".join(data) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
            self._check(self._size)
        return None

    def _check(self, size: int) -> None:
        if size > self._largest:
            raise ValueError(f"expected events of at most {self._largest:,} bytes, got a larger one")
