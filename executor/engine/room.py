"""How much a worker process holds at once: places for runs, and one place for a suspect.

A suspect is an item that was claimed before and neither ended nor got further: whoever held it may have died of it. One
at a time per process is let in, so that what kills workers takes no neighbour's attempts along. One that lives past a
renewal is no killer by birth, and makes way for the next.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from events.types import WorkItem

TRUSTED = 2
"""An item at this attempt or later is a suspect."""


class Room:
    """Places in one process. Reserve before a claim, and give back what the claim did not fill.

    Args:
        places: how many items are held at once.
        probation: seconds after which a suspect makes way.
    """

    def __init__(self, places: int, probation: float) -> None:
        self._places = self._free = places
        self._probation = probation
        self._changed = asyncio.Condition()
        self._closed = asyncio.Event()
        self._suspects = 0  # asked for or held, on probation
        self._held: set[UUID] = set()

    async def reserve(self, most: int) -> int:
        """Waits for a free place and takes up to `most`; 0 once the room is closed."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._free > 0 or self._closed.is_set())
            if self._closed.is_set():
                return 0
            places = min(self._free, most)
            self._free -= places
            return places

    async def resize(self, places: int) -> None:
        """There are so many places from now on. Who has one keeps it: a room that shrank empties first."""
        if places != self._places:
            async with self._changed:
                self._free += places - self._places
                self._places = places
                self._changed.notify()

    async def release(self, places: int) -> None:
        """Gives places back."""
        async with self._changed:
            self._free += places
            self._changed.notify()

    def overfill(self) -> None:
        """One more item than there are places: it is leased already, and must not wait."""
        self._free -= 1

    async def close(self) -> None:
        """Nobody gets a place any more, and whoever waits for one is told."""
        self._closed.set()
        async with self._changed:
            self._changed.notify_all()

    def ask_for_suspect(self) -> int:
        """1 if a suspect may be claimed now, else 0. Answer with `admit`."""
        if self._suspects:
            return 0
        self._suspects = 1
        return 1

    def admit(self, asked: int, items: list[WorkItem]) -> None:
        """What the claim brought, of which `asked` suspects were asked for."""
        suspects = [item.id for item in items if item.attempt >= TRUSTED]
        self._suspects += len(suspects) - asked
        for id in suspects:
            self._held.add(id)
            asyncio.get_running_loop().call_later(self._probation, self.clear, id)

    def clear(self, id: UUID) -> bool:
        """The item ended, or outlived its probation; whether it was a suspect until now."""
        if id not in self._held:
            return False
        self._held.discard(id)
        self._suspects -= 1
        return True
