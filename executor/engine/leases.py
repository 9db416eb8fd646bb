"""What this process holds, and keeping it: one renewal for all, every third of a lease.

A task that belongs to a lost lease is cancelled: its appends would change nothing, and its calls should stop. When the
database cannot be reached for a whole lease, everything held counts as lost. What was dropped while the database was
away is given back when it answers again, so that nobody waits for a lease to run out.
"""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import structlog

from events.errors import HeadraceError
from events.work import Held as HeldItem
from events.work import WorkList

_log = structlog.get_logger(__name__)


class Leases:
    """The work items of this process by id, each with its token and the task that works on it."""

    def __init__(self, work: WorkList) -> None:
        self._work = work
        self._held: dict[UUID, tuple[int, asyncio.Task[None] | None]] = {}
        self._orphans: dict[UUID, int] = {}
        self._renewed = time.monotonic()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, id: UUID, token: int, task: asyncio.Task[None] | None = None) -> None:
        """From now on this item is renewed, and `task` is cancelled if it is lost."""
        self._held[id] = (token, task)

    def drop(self, id: UUID) -> None:
        """The item is done with: ended, let go, or lost."""
        self._held.pop(id, None)

    def orphan(self, id: UUID, token: int) -> None:
        """The item could not be finished because the database is away: give it back when it answers."""
        self.drop(id)
        self._orphans[id] = token

    async def keep(self) -> None:
        """Renews until cancelled."""
        while True:
            await asyncio.sleep(1.0 if self._orphans else self._work.lease / 3)
            try:
                await self.renew()
            except HeadraceError as error:
                _log.warning("leases.not_renewed", held=len(self._held), error=str(error))
                if time.monotonic() - self._renewed > self._work.lease:
                    self._lose(set(self._held))
            except Exception:
                _log.exception("leases.not_renewed", held=len(self._held))

    async def renew(self) -> None:
        """Renews what is held, cancels what is lost, gives orphans back."""
        asked = {id: token for id, (token, _) in self._held.items()}
        kept = await self._work.renew(list(asked.items()))
        self._renewed = time.monotonic()
        self._lose({id for id, token in asked.items() if id not in kept and self._held.get(id, (None,))[0] == token})
        await self.give_back_orphans()

    async def give_back_orphans(self) -> None:
        """Makes the orphans due at once."""
        orphans: list[HeldItem] = list(self._orphans.items())
        await self._work.give_back(orphans)
        for id, _ in orphans:
            self._orphans.pop(id, None)

    def _lose(self, lost: set[UUID]) -> None:
        for id in lost:
            _, task = self._held.pop(id)
            _log.warning("lease.lost", item=str(id))
            if task is not None:
                task.cancel()
