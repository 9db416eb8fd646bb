"""All connections of one ingest process: how many there may be, how long they may be idle, what they may hold unread.

What it promises:
- At most `most` connections. One more closes the one that has been idle longest, never one with a request under way;
  when none is idle, the new one is closed.
- A connection that is idle, or does not get its headers done, is closed after `patience` seconds, and so is one that
  does not take its answer.
- Bytes that the application has not taken yet (headers, and bodies' beginnings) are counted for all connections
  together. Over `most_unread`, whoever holds more than `FREE` of them is turned away; so unread bytes are bounded by
  2 * most_unread + most * FREE.
- What is done per request is a dict entry; one look a second, over ordered dicts, finds those who are late.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections import Counter
from typing import Protocol

import structlog

from events.settings import Settings

FREE = 16 << 10
"""Unread bytes that a connection may always hold."""
LOOK = 1.0
"""Seconds between two looks for connections that are late."""
OTHER_FILES = 256
"""File descriptors kept for everything that is no connection: the database's, the log, the spool."""

_log = structlog.get_logger(__name__)


class Connection(Protocol):
    """What is asked of a connection here."""

    def recount(self) -> None:
        """Looks how many of its bytes are unread still."""

    def close_now(self) -> None:
        """Closes it without waiting for anything."""


class Connections:
    """The connections of one process.

    Args:
        most: how many there may be.
        patience: seconds that one may be idle, `header_timeout`.
        header_limit: bytes of a request's line and headers.
        most_unread: bytes that the application has not taken yet, before large holders are turned away.
    """

    def __init__(self, *, most: int, patience: float, header_limit: int, most_unread: int) -> None:
        self.header_limit = header_limit
        self.most_unread = most_unread
        self.unread = 0
        """Bytes that the application has not taken yet, of all connections."""
        self.count = 0
        self.turned_away: Counter[str] = Counter()
        """Connections that were closed since the last look, by reason."""
        self._most = most
        self._patience = patience
        self._idle: dict[Connection, float] = {}  # since when, the longest first
        self._leaving: dict[Connection, float] = {}  # whoever has answers to take, or was hung up on, since when
        self._holding: set[Connection] = set()
        self._looking: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, settings: Settings) -> Connections:
        """As the settings want them, and as the system allows."""
        return cls(
            most=allowed_connections(settings.connections),
            patience=settings.header_timeout,
            header_limit=settings.header_limit,
            most_unread=settings.body_memory // 4,
        )

    def opened(self, connection: Connection, now: float) -> None:
        """A new connection, idle at first."""
        self.count += 1
        self._idle[connection] = now
        if self.count > self._most:
            self.turned_away["too_many"] += 1
            longest = next(iter(self._idle))  # itself, when no other is idle
            del self._idle[longest]
            longest.close_now()
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK, self._look_again)

    def closed(self, connection: Connection) -> None:
        """It is gone, whoever closed it."""
        self.count -= 1
        self._idle.pop(connection, None)
        self._leaving.pop(connection, None)
        self._holding.discard(connection)

    def idle(self, connection: Connection, now: float) -> None:
        """No request is under way on it, from now on."""
        self._idle.pop(connection, None)
        self._idle[connection] = now
        self._holding.discard(connection)

    def busy(self, connection: Connection) -> None:
        """A request is under way on it."""
        self._idle.pop(connection, None)

    def holds(self, connection: Connection) -> None:
        """A body comes on it in several reads: what is unread of it changes as the application takes it."""
        self._holding.add(connection)

    def leaving(self, connection: Connection, now: float) -> None:
        """It has to take what was written before long: it was hung up on, or takes too little."""
        self._leaving.setdefault(connection, now)

    def took(self, connection: Connection) -> None:
        """It took what was written."""
        self._leaving.pop(connection, None)

    def look(self, now: float) -> None:
        """Closes all that are late, and says how many were turned away. Called once a second."""
        for connection in self._holding:
            connection.recount()
        for since in (self._idle, self._leaving):
            late = []
            for connection, began in since.items():
                if now - began <= self._patience:
                    break
                late.append(connection)
            for connection in late:
                del since[connection]
                connection.close_now()
        if self.turned_away:
            _log.warning("connections.turned_away", connections=self.count, **self.turned_away)
            self.turned_away.clear()

    def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        self.look(loop.time())
        self._looking = loop.call_later(LOOK, self._look_again) if self.count else None


def allowed_connections(wanted: int) -> int:
    """How many connections the process may hold: it raises its limit of open files as far as that takes and the system
    lets it, and warns when that is less than `wanted`. At least 1."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):  # a container may forbid even that
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = max(1, soft - OTHER_FILES)
    _log.warning(
        "connections.fewer",
        expected=f"{needed} open files for {wanted} connections",
        got=f"a limit of {soft}: {allowed} connections",
        do="raise the limit (ulimit -n, LimitNOFILE), or lower `connections`",
    )
    return allowed
