"""What this process holds, and keeping it: one renewal for all, every third of a lease.

A task that belongs to a lost lease is cancelled: its appends would change nothing, and its calls should stop. When the
database cannot be reached for a whole lease, everything held counts as lost. What was dropped while the database was
away is given back when it answers again, so that nobody waits for a lease to run out.

A process that was stopped, or is too busy, learns of its loss late. Whoever is about to do what cannot be undone asks
`sure` first: it counts from before a lease was asked for, by a clock that goes on while the process stands still.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple
from uuid import UUID

import structlog

from events.errors import HeadraceError
from events.work import WorkList

_log = structlog.get_logger(__name__)


class Holding(NamedTuple):
    """A work item of this process, its token, and the task that works on it."""

    id: UUID
    token: int
    task: asyncio.Task[None]


class Leases:
    """The work items of this process by id, each with its token and the task that works on it.

    A process that loses an item may claim it again before it has noticed: an item's older task is cancelled then, and
    whatever that one still says about the item is not taken for the newer one's word.
    """

    def __init__(self, work: WorkList) -> None:
        self._work = work
        self._held: dict[UUID, tuple[int, asyncio.Task[None]]] = {}
        self._since: dict[UUID, float] = {}
        self._orphans: dict[UUID, int] = {}
        self._renewed = time.monotonic()

    def __len__(self) -> int:
        return len(self._held)

    def holdings(self) -> list[Holding]:
        """What is held now. May be asked from another thread."""
        return [Holding(id, token, task) for id, (token, task) in list(self._held.items())]

    def orphans(self) -> list[tuple[UUID, int]]:
        """What waits to be given back, with its tokens. May be asked from another thread."""
        return list(self._orphans.items())

    def hold(self, id: UUID, token: int, task: asyncio.Task[None], since: float | None = None) -> None:
        """From now on this item is renewed, and `task` is cancelled if it is lost.

        Args:
            since: `time.monotonic()` when the lease was asked for, default now.
        """
        older = self._held.get(id)
        self._held[id] = (token, task)
        self._since[id] = time.monotonic() if since is None else since
        if older is not None:
            older[1].cancel()

    def drop(self, id: UUID, token: int) -> None:
        """The item is done with under this token: ended, let go, or lost."""
        if self._holds(id, token):
            del self._held[id], self._since[id]

    def sure(self, id: UUID, token: int) -> bool:
        """Whether nobody else can have claimed the item by now."""
        return self._holds(id, token) and time.monotonic() - self._since[id] < self._work.lease

    def orphan(self, id: UUID, token: int) -> None:
        """The item could not be finished because the database is away: give it back when it answers."""
        self.drop(id, token)
        self._orphans[id] = max(token, self._orphans.get(id, 0))

    async def keep(self) -> None:
        """Renews until cancelled. A renewal that hangs is given up in time for another try."""
        while True:
            await asyncio.sleep(min(1.0, self._work.lease / 3) if self._orphans else self._work.lease / 3)
            try:
                async with asyncio.timeout(self._work.lease / 3):
                    await self.renew()
            except (HeadraceError, TimeoutError) as error:
                _log.warning("leases.not_renewed", held=len(self._held), error=str(error) or "no answer")
                if time.monotonic() - self._renewed > self._work.lease:
                    self._lose({id: token for id, (token, _) in self._held.items()})
            except Exception:
                _log.exception("leases.not_renewed", held=len(self._held))

    async def renew(self) -> None:
        """Renews what is held, cancels what is lost, gives orphans back."""
        asked, since = {id: token for id, (token, _) in self._held.items()}, time.monotonic()
        kept = await self._work.renew(list(asked.items()))
        self._renewed = time.monotonic()
        for id in kept:
            if self._holds(id, asked[id]):
                self._since[id] = since
        self._lose({id: token for id, token in asked.items() if id not in kept})
        await self.give_back_orphans()

    async def give_back_orphans(self) -> None:
        """Makes the orphans due at once."""
        orphans = list(self._orphans.items())
        await self._work.give_back(orphans)
        for id, token in orphans:
            if self._orphans.get(id) == token:
                del self._orphans[id]

    def _holds(self, id: UUID, token: int) -> bool:
        held = self._held.get(id)
        return held is not None and held[0] == token

    def _lose(self, lost: dict[UUID, int]) -> None:
        for id, token in lost.items():
            if self._holds(id, token):  # it may have ended, or been claimed anew, since it was asked for
                _, task = self._held.pop(id)
                del self._since[id]
                _log.warning("lease.lost", item=str(id))
                task.cancel()
