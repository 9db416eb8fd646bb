"""From the spool to the log, in order, in large batches.

A row leaves the spool only when the log has answered for it: Accepted, or Duplicate of a delivery that the log knew
already (its sender was told the spooled id, so both ids are logged). A row that the log refuses by itself is marked and
stays. Killed between commit and delete, the next one commits the same rows again, and the log's dedup finds their ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import assert_never

import structlog

from events import faults
from events.errors import BadRow, HeadraceError
from events.types import Accepted, Appended, Duplicate, Receipt
from ingest.spool import Spool
from ingest.spool_rows import Spooled, Unreadable

ROWS = 1000
SIZE = 8 << 20
"""The largest batch, in rows and in bytes of memory."""
FEW = 500
"""Rows that new receipts can wait for."""

_log = structlog.get_logger(__name__)

Row = Spooled | Unreadable
Outcome = Accepted | Duplicate | BadRow


class Drain:
    """Moves rows.

    Args:
        commit: appends a batch to the log; raises BadRow when the log refuses some row, and another HeadraceError when
            it cannot be reached.
    """

    def __init__(self, spool: Spool, commit: Callable[[Sequence[Receipt]], Awaitable[Sequence[Appended]]]) -> None:
        self._spool = spool
        self._commit = commit
        self._rows = ROWS  # fewer after a failure: a log that is slow gets what it can take in time

    async def until_few(self) -> None:
        """Moves rows until so few are left that new receipts can wait for them.

        Raises:
            HeadraceError: the log or the spool's disk is away; all that was not moved is still there.
        """
        await self._move(FEW)

    async def until_none(self) -> None:
        """Moves all rows; nobody may append to the spool meanwhile.

        Raises:
            HeadraceError: as `until_few`.
        """
        await self._move(0)

    async def _move(self, enough: int) -> None:
        if self._spool.rows <= enough:
            return
        self._spool.pace.begin()
        try:
            batch: Sequence[Row] = await self._spool.next(0, self._rows, SIZE)
            while batch and self._spool.rows > enough:
                batch = await self._exchange(batch)
        finally:
            self._spool.pace.end()

    async def _exchange(self, batch: Sequence[Row]) -> Sequence[Row]:
        """Delivers a batch while the next one is read."""
        ahead = self._spool.next(batch[-1].seq, self._rows, SIZE)
        try:
            _, after = await asyncio.gather(self._deliver(batch), ahead)
        except HeadraceError:
            self._rows = max(1, self._rows // 4)
            raise
        self._rows = min(ROWS, 2 * self._rows)
        self._spool.pace.moved(len(batch))
        return after

    async def _deliver(self, batch: Sequence[Row]) -> None:
        sound = [row for row in batch if isinstance(row, Spooled)]
        faults.point("spool.drain.read")
        outcomes = await self._put([row.receipt for row in sound])
        faults.point("spool.drain.committed")
        for row in batch:
            if isinstance(row, Unreadable):
                await self._refuse(row.seq, row.fault)
        for row, outcome in zip(sound, outcomes, strict=True):
            match outcome:
                case Accepted():
                    pass
                case Duplicate(first):
                    _log.info("spool.duplicate", delivery=str(row.receipt.stream_id), first=str(first))
                case BadRow():
                    await self._refuse(row.seq, str(outcome), delivery=str(row.receipt.stream_id))
                case impossible:
                    assert_never(impossible)
        await self._spool.delete(batch[-1].seq)
        faults.point("spool.drain.deleted")

    async def _put(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        """One outcome per receipt, in order; a receipt that the log refuses fails alone."""
        if not receipts:
            return []
        try:
            return list(await self._commit(receipts))
        except BadRow as error:
            if len(receipts) == 1:
                return [error]
        middle = len(receipts) // 2
        return await self._put(receipts[:middle]) + await self._put(receipts[middle:])

    async def _refuse(self, seq: int, reason: str, **delivery: str) -> None:
        await self._spool.refuse(seq, reason)
        _log.error("spool.refused", row=seq, reason=reason, kept="in the spool, until the next start", **delivery)
