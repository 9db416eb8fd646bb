"""The log as ingest asks it: nobody waits for an answer longer than he says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from events.database import Database
from events.deliveries import DeliveryWriter
from events.errors import OutcomeUnknown
from events.types import Appended, Receipt

Answer = TypeVar("Answer")


class Log(Protocol):
    """What the keeper asks of the log. Each raises HeadraceError while PostgreSQL is away."""

    async def write(self, batch: Sequence[Receipt]) -> Sequence[Appended]:
        """As `DeliveryWriter.write`."""

    async def ask(self) -> None:
        """Asks whether it is there."""

    async def reach(self) -> None:
        """Asks anew: nothing that is left from before an outage is used for it, or after it."""


class DatabaseLog:
    """The log behind a Database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.write = DeliveryWriter(database).write

    async def ask(self) -> None:
        await self._database.fetchval("SELECT 1")

    async def reach(self) -> None:
        await self._database.reach()


class BoundedLog:
    """A log with limits in seconds.

    Args:
        committed: called with each batch once it is in the log, also when nobody waited any more; must not fail.
    """

    def __init__(self, log: Log, committed: Callable[[Sequence[Receipt]], None]) -> None:
        self._log = log
        self._committed = committed
        self._asked: set[asyncio.Future[Any]] = set()  # what has not been answered, late or not
        self._asking: asyncio.Task[None] | None = None

    async def write(self, batch: Sequence[Receipt], seconds: float) -> Sequence[Appended]:
        """Appends a batch.

        Raises:
            OutcomeUnknown: it is late.
            HeadraceError: as the log says.
        """
        return await self._answer(seconds, self._noted(self._commit(batch)))

    async def ask(self, seconds: float) -> None:
        """Asks whether it is there: one question at a time, so that late answers hold one connection and no more.
        Raises as `write`.
        """
        if self._asking is None or self._asking.done():
            self._asking = self._noted(self._log.ask())
        await self._answer(seconds, self._asking)

    async def reach(self) -> None:
        """Asks anew; see Log."""
        await self._log.reach()

    async def _commit(self, batch: Sequence[Receipt]) -> Sequence[Appended]:
        appended = await self._log.write(batch)
        self._committed(batch)
        return appended

    def _noted(self, asking: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        task = asyncio.create_task(asking)
        self._asked.add(task)
        task.add_done_callback(self._heard)
        return task

    async def _answer(self, seconds: float, task: asyncio.Task[Answer]) -> Answer:
        """What is late is not cancelled, which can take as long again: it is left to itself."""
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise OutcomeUnknown(f"PostgreSQL did not answer within {seconds:g} s")
        return task.result()

    def _heard(self, task: asyncio.Future[Any]) -> None:
        self._asked.discard(task)
        if not task.cancelled():
            task.exception()
