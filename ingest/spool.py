"""The spool: a local, durable, bounded queue of receipts for the time while PostgreSQL is away.

This is the face that the event loop sees; the file is `ingest.spool_store`, and one thread does all that touches it.
Receipts are committed in groups, by the same `Journal` as the log's: whatever was appended while the last fsync ran is
the next batch.

- A receipt's future resolves once it is on the disk, with `Accepted`, or with `Duplicate` of one that lies here too.
- Bounded: what does not fit into the limit any more is `Overloaded` at once. Receipts under way count in full, kept
  ones as compressed.
- A disk that fails (full, read-only, broken) is `Unavailable`, and nothing is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from events import faults
from events.errors import Overloaded
from events.journal import Journal
from events.types import Appended, Receipt
from ingest.spool_pace import Pace
from ingest.spool_rows import Spooled, Unreadable, encode, read, weight
from ingest.spool_store import Store

BATCH_ROWS = 500
BATCH_BYTES = 4 << 20
"""Bounds of one commit to the spool."""

LARGE = 1 << 20
MANY = 1000
"""Bytes, and receipts with their items, above which a batch is packed and unpacked in the spool's thread."""
USUAL = 64 << 10
"""Bytes that a delivery seldom exceeds."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spool:
    """The spool in `directory`.

    Args:
        directory: made when it is not there; of this process alone.
        limit: the most bytes of deliveries kept, the refused ones among them. The file may be nearly twice as large:
            a page holds one row of just over 2 KB.
        max_waiting: receipts that may wait for the disk before `Overloaded`, default 10,000.

    Raises:
        ConfigError: see `Store`.
    """

    def __init__(self, directory: Path, limit: int, *, max_waiting: int = 10_000) -> None:
        self.limit = limit
        self.pace = Pace()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._underway = 0
        self._journal: Journal[Receipt, Appended] = Journal(
            self._insert, weight, max_waiting=max_waiting, max_rows=BATCH_ROWS, max_bytes=BATCH_BYTES
        )
        try:
            self._store = self._thread.submit(Store, directory).result()
        except BaseException:
            self._thread.shutdown()
            raise

    @property
    def rows(self) -> int:
        """Receipts that wait for the log."""
        return self._store.rows

    @property
    def size(self) -> int:
        """Bytes of all that lies here or is under way, the refused ones too."""
        return self._store.size + self._underway

    @property
    def refused(self) -> int:
        """Receipts that the log refused or the disk damaged; they wait for the next start."""
        return self._store.refused

    @property
    def oldest(self) -> float | None:
        """When the first that waits came, in Unix seconds by the database's clock."""
        return self._store.oldest

    @property
    def full(self) -> bool:
        """Whether too little is left for a delivery of usual size: a hundredth of the limit, or 64 KB, or, of a very
        small limit, a tenth.
        """
        return self.limit - self.size < max(self.limit // 100, min(USUAL, self.limit // 10))

    def append(self, receipt: Receipt) -> asyncio.Future[Appended]:
        """Keeps a receipt; the future resolves when it is durable.

        Raises:
            Overloaded: it does not fit, or too many wait for the disk already.
        """
        size = weight(receipt)
        if self.size + size > self.limit:
            raise Overloaded(f"the spool is full: {self.size:,} of {self.limit:,} bytes; see spool_limit")
        future = self._journal.append(receipt)
        self._underway += size
        return future

    async def _insert(self, receipts: Sequence[Receipt]) -> list[Appended]:
        size = sum(map(weight, receipts))
        try:
            await self.pace.admit(len(receipts))
            kept = await self._each(encode, receipts, size, sum(1 + len(r.items) for r in receipts))
            appended = await self._run(partial(self._store.insert, receipts, kept))
        finally:
            self._underway -= size
        faults.point("spool.appended")
        return appended

    async def settled(self) -> None:
        """Returns when all that was appended so far has been answered."""
        await self._journal.drain()

    async def next(self, after: int, rows: int, size: int) -> list[Spooled | Unreadable]:
        """The first rows behind the number `after`, in the order in which they were kept: at most so many, and of so
        many bytes once they are unpacked (one row may be larger).

        Raises:
            Unavailable: the disk cannot be read.
        """
        found = await self._run(partial(self._store.next, after, rows, size))
        size = sum(row.weight for row in found)
        return await self._each(lambda row: read(row.seq, row.kept), found, size, len(found))

    async def delete(self, through: int) -> None:
        """Forgets all rows up to this number but the refused ones.

        Raises:
            Unavailable: the disk did not take it.
        """
        await self._run(partial(self._store.delete, through))

    async def refuse(self, seq: int, reason: str) -> None:
        """Marks a row as one that cannot be delivered. It stays, counts towards the limit, and is tried at each start.

        Raises:
            Unavailable: the disk did not take it.
        """
        await self._run(partial(self._store.refuse, seq, reason))

    async def remember(self, name: str, value: bytes) -> None:
        """Keeps a value beside the deliveries, for a start without PostgreSQL. The same value again costs nothing.

        Raises:
            Unavailable: the disk did not take it.
        """
        if self.recall(name) != value:
            await self._run(partial(self._store.remember, name, value))

    def recall(self, name: str) -> bytes | None:
        """What was remembered under this name last, also by an earlier process."""
        return self._store.memory.get(name)

    async def check(self) -> None:
        """Writes to the disk.

        Raises:
            Unavailable: it did not take it.
        """
        await self._run(partial(self._store.remember, "check", b""))

    async def tidy(self) -> None:
        """Gives the space of an empty spool back to the disk."""
        await self._run(self._store.tidy)

    async def close(self) -> None:
        """Finishes what was appended and lets go of the directory."""
        await self.settled()
        await self._run(self._store.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _each(self, work: Callable[[Item], Result], items: Sequence[Item], size: int, rows: int) -> list[Result]:
        """Packs or unpacks: on the loop, because a thread waits for the interpreter at every row; what is large or many
        rows in the spool's thread.
        """
        if size <= LARGE and rows <= MANY:
            return [work(item) for item in items]
        return await self._run(lambda: [work(item) for item in items])
