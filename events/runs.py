"""Fenced appends: what a worker writes about the runs and deliveries it holds.

Every statement here (`events.appends`, `events.routes`) joins its rows with the work items on (id, token) under a row
lock and goes on only with what matches, so that a stale token inserts nothing, all or none per stream, and the run's
head, its work item and all effects change in the same commit. Rows are locked in id order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from uuid import UUID

import asyncpg

from events import appends, lanes, routes
from events.database import Database
from events.effects import Arrival, Effect, Emit, NewRun, StartRun, Subscribe, Tell, Unsubscribe, Wake
from events.journal import Journal
from events.run_types import Finish, Keep, NewEvent, Routing, RunAppend, Status, Then, Yield
from events.types import DELIVERY_QUEUE

__all__ = [
    "Arrival",
    "Effect",
    "Emit",
    "Finish",
    "Keep",
    "NewEvent",
    "NewRun",
    "Routing",
    "RunAppend",
    "RunWriter",
    "StartRun",
    "Status",
    "Subscribe",
    "Tell",
    "Then",
    "Unsubscribe",
    "Wake",
    "Yield",
]


class RunWriter:
    """Writes what a worker's runs and routings come to.

    Attributes:
        ring: called after a commit with each queue that has something new to do for whoever looks: a child, an
            emitted delivery, a run that was told something, a run that let go with a signal unread. Must not raise.
        told: called after a commit for each run with a holder that was told something, with its newest signal. The
            holder may be this process: then it need not look. Must not raise.
        wrote: called after a commit with the runs that have new events, and the version of each one's newest; a
            generator, which costs nothing if nobody looks at it. Must not raise.
        took: called with the seconds that each append took. Must not raise.
    """

    def __init__(self, database: Database, *, owner: str, lease: float) -> None:
        self.ring: Callable[[str], None] | None = None
        self.told: Callable[[UUID, int], None] | None = None
        self.wrote: Callable[[Iterable[tuple[UUID, int]]], None] | None = None
        self.took: Callable[[float], None] | None = None
        self._database = database
        self._owner = owner
        self._lease = lease

    def journal(self, *, max_waiting: int = 100_000) -> Journal[RunAppend, bool]:
        """The journal of a worker process: many runs' appends in one commit."""
        return Journal(self.append, appends.size, max_waiting=max_waiting)

    async def append(self, batch: Sequence[RunAppend]) -> list[bool]:
        """Appends; one answer per row: whether its token was current. False means that nothing of it was written.

        Raises:
            BadRow: some row's data was refused (a version that exists, say); nothing of the batch was written.
            Unavailable: nothing is known to be written.
        """
        began = time.monotonic()
        if appends.is_plain(batch):
            rows = await self._database.fetch(appends.APPEND, *appends.rows(batch))
        else:
            rows = await self._database.fetch(
                appends.APPEND_ELABORATE, *appends.rows(batch), *appends.effects(batch, self._lease, self._owner)
            )
        if self.took is not None:
            self.took(time.monotonic() - began)
        held = {row["ord"]: row for row in rows if row["ord"] is not None}
        written = [(batch[ord - 1], row) for ord, row in held.items()]
        let_go = {one.id for one, _ in written if isinstance(one.then, Yield)}
        queues = {row["queue"] for one, row in written if one.id in let_go and row["signal"] > one.inbox}
        for one, _ in written:
            queues.update(_fed(one.effects))
        self._tell(rows, let_go, queues)
        if self.wrote is not None:
            self.wrote(_appended(one for one, _ in written))
        return [number in held for number in range(1, len(batch) + 1)]

    async def route(self, batch: Sequence[Routing]) -> list[bool]:
        """Notes routings, creates their runs, asks their lanes; one answer per row, as `append`."""
        if routes.is_plain(batch):
            rows = await self._database.fetch(routes.ROUTE, *routes.rows(batch, self._lease, self._owner))
            held = {row["ord"] for row in rows}
            if self.wrote is not None:
                self.wrote((run.id, 0) for number in held for run in batch[number - 1].runs)
            return [number in held for number in range(1, len(batch) + 1)]
        written = [False] * len(batch)
        left = list(range(len(batch)))
        while left:  # a lane may go between being made and being asked: then both again
            some = [batch[place] for place in left]
            await lanes.ensure(self._database, [one for row in some for one in row.requests])
            rows = await self._database.fetch(
                routes.ROUTE_ELABORATE,
                *routes.rows(some, self._lease, self._owner),
                *routes.arrivals(some),
                *routes.requests(some),
            )
            self._tell(rows, set(), set())
            lacking = {row["ord"] for row in rows if row["ord"] is not None and row["lacking"]}
            for row in rows:
                if row["ord"] is not None and row["ord"] not in lacking:
                    written[left[row["ord"] - 1]] = True
            left = [left[ord - 1] for ord in sorted(lacking)]
        if self.wrote is not None:
            self.wrote((run.id, 0) for number, done in enumerate(written) if done for run in batch[number].runs)
        return written

    def _tell(self, rows: Sequence[asyncpg.Record], let_go: set[UUID], queues: set[str]) -> None:
        """Passes on who was told something, and where there is something to do."""
        news = {row["id"]: row["told"] for row in rows if row["told"] is not None}
        for row in rows:
            if row["ord"] is None and row["told"] is None and (seq := news.get(row["id"])) is not None:
                if not row["leased"] or row["id"] in let_go:
                    queues.add(row["queue"])
                elif self.told is not None:
                    self.told(row["id"], seq)
        if self.ring is not None:
            for queue in sorted(queues):
                self.ring(queue)


def _appended(written: Iterable[RunAppend]) -> Iterator[tuple[UUID, int]]:
    """What was appended to, and the children that were started."""
    for one in written:
        if one.events:
            yield one.id, one.events[-1].version
        for effect in one.effects:
            if isinstance(effect, StartRun):
                yield effect.run.id, 0


def _fed(effects: Iterable[Effect]) -> set[str]:
    """The queues that get work of their own by these."""
    queues = {one.run.queue for one in effects if isinstance(one, StartRun) and not one.run.leased}
    return queues | {DELIVERY_QUEUE for one in effects if isinstance(one, Emit)}
