"""Group commit: one queue and one flusher per process, for ingest and executor alike.

Whatever has queued up while the last commit was in flight is the next batch. There is no timer: at idle a row waits for
one commit; under load the batch grows by itself. One flusher did better than two.

What it promises:
- A row's future resolves only after the batch that holds it was committed, or with the error that kept it out.
- A row that the database refuses (BadRow) fails alone: its batch is cut in halves until it stands by itself.
- A full queue is `Overloaded` at once. The queue is bounded in rows; a batch in rows and bytes.
- No lost wake-up: the flusher looks at the queue and signs off without giving up the loop in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from events.errors import BadRow, Overloaded, Unavailable

Row = TypeVar("Row")
Result = TypeVar("Result")

RETRIES = 3
"""How often a row that stands alone is tried again after BadRow: another writer may have taken its version."""


class Journal(Generic[Row, Result]):
    """Commits rows in batches.

    Args:
        write: appends a batch in one transaction and returns one result per row, in order. Raises BadRow when the
            database refuses the data of some row, Unavailable when it cannot be reached.
        size: the bytes of a row.
        max_waiting: rows that may queue before `Overloaded`.
        max_rows, max_bytes: the bounds of a batch, default 500 rows and 1 MB (one row may be larger).
    """

    def __init__(
        self,
        write: Callable[[Sequence[Row]], Awaitable[Sequence[Result]]],
        size: Callable[[Row], int],
        *,
        max_waiting: int = 10_000,
        max_rows: int = 500,
        max_bytes: int = 1 << 20,
    ) -> None:
        self._write = write
        self._size = size
        self._max_waiting = max_waiting
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[Row, asyncio.Future[Result]]] = deque()
        self._flusher: asyncio.Task[None] | None = None  # the strong reference that keeps it alive

    def append(self, row: Row) -> asyncio.Future[Result]:
        """Queues a row. The future holds its result once it is durable.

        Raises:
            Overloaded: the queue is full; nothing was queued.
        """
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(f"{self._max_waiting} rows wait for the log already")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        return future

    async def drain(self) -> None:
        """Returns when all that was queued has been answered."""
        while self._flusher is not None:
            await asyncio.wait([self._flusher])

    async def _flush(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._next_batch())
        finally:
            self._flusher = None  # no await since the queue was seen empty
            for _, future in self._waiting:  # only when the flusher itself was cancelled or broke
                _fail(future, Unavailable("the journal was stopped"))
            self._waiting.clear()

    def _next_batch(self) -> list[tuple[Row, asyncio.Future[Result]]]:
        batch = [self._waiting.popleft()]
        room = self._max_bytes - self._size(batch[0][0])
        while self._waiting and len(batch) < self._max_rows:
            room -= self._size(self._waiting[0][0])
            if room < 0:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _commit(self, batch: list[tuple[Row, asyncio.Future[Result]]], tries: int = RETRIES) -> None:
        try:
            results = await self._write([row for row, _ in batch])
        except BadRow as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._commit(batch[:middle])
                await self._commit(batch[middle:])
            elif tries > 1:
                await self._commit(batch, tries - 1)
            else:
                _fail(batch[0][1], error)
        except Exception as error:
            for _, future in batch:
                _fail(future, error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():  # its caller may have gone away; the row is in the log all the same
                    future.set_result(result)


def _fail(future: asyncio.Future[Result], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen: a caller that left does not turn it into a warning
