"""Where a verified receipt goes: to the log, or, while PostgreSQL is away, to the spool; without a spool it is refused.

    direct    the journal commits to the log                           [add nothing to what that costs]
    away      with a spool: receipts go there, and nobody waits for PostgreSQL; without one: `Unavailable` at once
    held      the last few rows are on their way from the spool to the log; new receipts wait for that one commit

A failed or late commit leads from direct to away. `_come_back` leads from there through held to direct: it asks for
PostgreSQL again and again and, once it is there, moves the spool's rows in their order (`ingest.spool_drain`).

What it promises:
- Whatever was answered with Accepted is durable, and is in the log exactly once in the end: a receipt whose commit has
  an unknown outcome goes to the spool under its own id, and the log's dedup finds that id if the commit did happen.
- Receipts that follow one another on a sender's connection are in the log in that order: as long as anything lies in
  the spool, what is new goes behind it. (Of a commit whose answer was lost, PostgreSQL decides the moment.)
- Nobody waits longer than `patience` for a PostgreSQL that does not answer, and only the first ones do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import structlog

from events.database import Database
from events.deliveries import size_of
from events.errors import BadRow, HeadraceError, Overloaded, Unavailable
from events.ids import Clock
from events.journal import Journal
from events.types import Appended, Receipt
from ingest.readiness import AWAY, SPOOL_FAILS, STARTING, Full, NotReady, Readiness, Ready, Spooling
from ingest.spool import Spool
from ingest.spool_drain import Drain
from ingest.spool_log import BoundedLog, DatabaseLog, Log

PATIENCE = 5.0
"""Seconds that a commit may take before PostgreSQL counts as away; a statement's own limit should be longer."""
ASK = 2.0
"""Seconds that a question for readiness may take."""
PACE = 2 << 20
"""Bytes of a batch that earn it another second of patience: a large one takes long where nothing is wrong."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds between two tries to come back with a spool: doubled from the first to the longest."""
CIRCUIT_PAUSE = 0.25
"""The same without one, where every moment is refused deliveries."""
CLOCK = 60.0
"""Seconds between two looks at the clock's offset, for the spool to remember."""
GRACE = 5.0
"""Seconds that a process that ends goes on draining."""

_say = structlog.get_logger(__name__)


class Keeper:
    """Takes receipts. `start` it where a loop runs, and `close` it.

    Args:
        clock: gets the offset that the spool remembers, until somebody measures it.
        spool: None when there is none.
        max_waiting: receipts that may wait for the log before `Overloaded`.
        committed: called with each batch once it is in the log; must not fail.
        patience: seconds; see PATIENCE.
    """

    def __init__(
        self,
        log: Log,
        clock: Clock,
        spool: Spool | None = None,
        *,
        max_waiting: int = 10_000,
        committed: Callable[[Sequence[Receipt]], None] = lambda batch: None,
        patience: float = PATIENCE,
    ) -> None:
        self._log = BoundedLog(log, committed)
        self._clock = clock
        self._spool = spool
        self._patience = patience
        self._journal: Journal[Receipt, Appended] = Journal(self._write_direct, size_of, max_waiting=max_waiting)
        self._drain = Drain(spool, self._bounded_commit) if spool else None
        self._direct = False
        self._says = STARTING
        self._held: asyncio.Event | None = None  # set when the hold ends
        self._why = "PostgreSQL was not reached yet"
        self._left = asyncio.Event()
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if spool and (offset := spool.recall("clock")):
            clock.offset = float(offset)

    async def append(self, receipt: Receipt) -> Appended:
        """Keeps a receipt; returns when it is durable.

        Raises:
            Overloaded: a queue or the spool is full. Nothing was kept.
            Unavailable: it cannot be kept now; OutcomeUnknown: it may have been.
            BadRow: the log refuses its data.
        """
        while True:
            if self._direct:
                try:
                    return await self._journal.append(receipt)
                except (BadRow, Overloaded):
                    raise
                except HeadraceError:
                    if self._spool is None:
                        raise
            elif self._held is not None:
                await self._held.wait()
            elif self._spool is not None:
                return await self._spool.append(receipt)
            else:
                raise Unavailable(f"the event log is away: {self._why}")

    def start(self) -> None:
        """Begins to look for PostgreSQL."""
        self._task = asyncio.create_task(self._run())

    def look(self) -> None:
        """Looks for PostgreSQL now: somebody has reason to think that it is there."""
        self._look.set()

    async def close(self, grace: float = GRACE) -> None:
        """Answers what was appended, and moves what lies in the spool if PostgreSQL is there, for `grace` seconds.
        A keeper that was not started, or was closed before, is left as it is.
        """
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        await self._journal.drain()
        if self._spool is None:
            return
        await self._spool.settled()
        if self._spool.rows:
            with contextlib.suppress(TimeoutError, HeadraceError):
                async with asyncio.timeout(grace):
                    await self._log.reach()
                    await self._empty()
        if self._spool.rows:
            _say.warning("spool.kept", rows=self._spool.rows, bytes=self._spool.size, until="the next start")
        await self._spool.close()

    async def readiness(self) -> Readiness:
        """Whether a delivery would be kept now, and where; within some ASK seconds. Asking turns no delivery away."""
        why = self._why
        if self._direct:
            try:
                await self._log.ask(ASK)
                return Ready(self._spool.refused if self._spool else 0)
            except HeadraceError as error:
                why = str(error)
        if (spool := self._spool) is None:
            return NotReady(why, self._says)
        if spool.full:
            return Full(spool.rows, spool.size, spool.refused, why)
        try:
            async with asyncio.timeout(ASK):
                await spool.check()
        except (HeadraceError, TimeoutError) as error:
            return NotReady(f"{why}; {error or 'the disk of the spool does not answer'}", SPOOL_FAILS)
        age = self._clock.now() - spool.oldest if spool.oldest is not None else 0.0
        return Spooling(spool.rows, spool.size, max(0.0, age), spool.refused, why)

    async def _write_direct(self, batch: Sequence[Receipt]) -> Sequence[Appended]:
        if not self._direct:  # the batch before failed, and this one does not wait to learn the same
            raise Unavailable(self._why)
        try:
            return await self._bounded_commit(batch)
        except BadRow:
            raise
        except HeadraceError as error:
            self._leave(str(error))
            raise

    async def _bounded_commit(self, batch: Sequence[Receipt]) -> Sequence[Appended]:
        return await self._log.write(batch, self._patience + sum(map(size_of, batch)) / PACE)

    def _leave(self, why: str) -> None:
        self._why = why
        if self._direct:
            self._direct = False
            _say.warning("log.away", reason=why, deliveries="spooled" if self._spool else "refused")
            self._left.set()

    async def _run(self) -> None:
        while True:
            self._left.clear()
            await self._come_back()
            self._says = AWAY
            while not self._left.is_set():
                await self._remember_clock()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOCK):
                        await self._left.wait()

    async def _come_back(self) -> None:
        pause = FIRST_PAUSE if self._spool else CIRCUIT_PAUSE
        while not self._direct:
            self._look.clear()
            try:
                await self._log.reach()
                await self._empty()
            except HeadraceError as error:
                self._why = str(error)
            except Exception as error:  # our own fault must not end the way back
                self._why = f"{type(error).__name__}: {error}"
                _say.error("log.not_back", exc_info=error)
            else:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look.wait()
            pause = min(2 * pause, LONGEST_PAUSE) if self._spool else pause
        _say.info("log.back")

    async def _empty(self) -> None:
        """Moves what lies in the spool; the last of it while new receipts wait. Then the way is direct."""
        if self._spool is None or self._drain is None:
            self._direct = True
            return
        await self._drain.until_few()
        self._held = asyncio.Event()
        try:
            await self._spool.settled()
            await self._drain.until_none()
            self._direct = True
        finally:
            self._held.set()
            self._held = None
        with contextlib.suppress(HeadraceError):
            await self._spool.tidy()

    async def _remember_clock(self) -> None:
        if self._spool is not None:
            with contextlib.suppress(HeadraceError):
                await self._spool.remember("clock", b"%.2f" % self._clock.offset)


def keeper_of(
    database: Database,
    spool: Spool | None,
    *,
    max_waiting: int,
    committed: Callable[[Sequence[Receipt]], None] = lambda batch: None,
) -> Keeper:
    """The keeper of an ingest process."""
    return Keeper(DatabaseLog(database), database.clock, spool, max_waiting=max_waiting, committed=committed)
