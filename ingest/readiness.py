"""Whether ingest would take a delivery now, and where it would keep it; and how that is told to whoever asks.

Anybody may ask, as often as they like: one question is under way at a time, its answer serves all for a second, and it
changes nothing. What is said in public is one of few words; reasons with names and addresses go to the log, once for
each change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, assert_never

import msgspec
import structlog

KEEP = 1.0
"""Seconds for which an answer stands."""

AWAY = "the event log is away"
STARTING = "starting: the event log was not reached yet"
SPOOL_FAILS = "the event log is away, and the spool cannot be written"
NO_SOURCES = "starting: the sources are not known yet"
"""All that the public is told of why."""

_log = structlog.get_logger(__name__)


class Ready(msgspec.Struct, frozen=True):
    """A delivery goes to the log now. `refused`: rows in the spool that the log refused; somebody should look."""

    refused: int = 0


class Spooling(msgspec.Struct, frozen=True):
    """A delivery goes to the spool now. `age`: seconds that the oldest row has waited; sizes are bytes."""

    rows: int
    size: int
    age: float
    refused: int
    reason: str


class Full(msgspec.Struct, frozen=True):
    """A delivery is refused: the spool is full, and PostgreSQL is away."""

    rows: int
    size: int
    refused: int
    reason: str


class NotReady(msgspec.Struct, frozen=True):
    """A delivery is refused. `says`: what the public may know of the reason."""

    reason: str
    says: str = AWAY


Readiness = Ready | Spooling | Full | NotReady


class Readings:
    """Answers about readiness, for the public.

    Args:
        read: asks; may take a while, and does not raise.
    """

    def __init__(self, read: Callable[[], Awaitable[Readiness]]) -> None:
        self._read = read
        self._reading: asyncio.Task[Readiness] | None = None
        self._read_at = 0.0
        self._said: tuple[type[Readiness], str] | None = None

    async def now(self) -> Readiness:
        """What was read at most a second ago, or is being read."""
        reading = self._reading
        if reading is None or (reading.done() and monotonic() - self._read_at >= KEEP):
            reading = self._reading = asyncio.create_task(self._ask())
        return await asyncio.shield(reading)  # one who leaves takes nobody's answer along

    async def _ask(self) -> Readiness:
        found = await self._read()
        self._read_at = monotonic()
        state = type(found), found.says if isinstance(found, NotReady) else ""
        if state != self._said:
            self._said = state
            _log.info("ready.changed", now=type(found).__name__, reason=getattr(found, "reason", None))
        return found


def told(readiness: Readiness) -> tuple[int, dict[str, Any]]:
    """(HTTP status, body) for the public."""
    match readiness:
        case Ready(refused):
            return 200, {"status": "ready"} | ({"refused": refused} if refused else {})
        case Spooling(rows, size, age, refused):
            return 200, {"status": "spooling", "rows": rows, "size": size, "age": age, "refused": refused}
        case Full(rows, size, refused):
            return 503, {"status": "full", "rows": rows, "size": size, "refused": refused}
        case NotReady(says=says):
            return 503, {"status": "not ready", "reason": says}
        case impossible:
            assert_never(impossible)
