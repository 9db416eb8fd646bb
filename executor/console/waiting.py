"""Waiting for runs to end: one query at a time for all who wait, and none while nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from uuid import UUID

import structlog

from events.database import Database
from events.errors import HeadraceError

SHORTEST, LONGEST = 0.004, 0.05
"""Seconds between two looks: a quarter of the time for which the latest has waited, within these."""
MOST = 1_000
"""Requests that wait at the same time."""

# One that was reopened has ended before, and goes on.
_ENDED = """
SELECT id FROM run r WHERE id = ANY ($1::uuid[]) AND ended_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM work_item w WHERE w.id = r.id)
"""
_log = structlog.get_logger(__name__)


class Ends:
    """The ends of runs, for as many requests as wait for them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._latest = 0.0
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, run_id: UUID, seconds: float) -> None:
        """Returns when the run has ended, after `seconds` at the latest; at once where too many wait."""
        if seconds <= 0 or sum(map(len, self._waiting.values())) >= MOST:
            return
        ended = asyncio.Event()
        self._waiting.setdefault(run_id, set()).add(ended)
        self._latest = time.monotonic()
        self._came.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            pass
        finally:
            waiting = self._waiting.get(run_id, set())
            waiting.discard(ended)
            if not waiting:
                self._waiting.pop(run_id, None)

    async def close(self) -> None:
        """Nobody is waited for any more."""
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        while self._waiting:
            try:
                rows = await self._database.fetch(_ENDED, list(self._waiting))
            except HeadraceError as error:
                _log.warning("console.waiting", error=str(error))
                rows = []
            for row in rows:
                for ended in self._waiting.get(row[0], ()):
                    ended.set()
            await self._pause()

    async def _pause(self) -> None:
        self._came.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(LONGEST, max(SHORTEST, (time.monotonic() - self._latest) / 4))):
                await self._came.wait()
