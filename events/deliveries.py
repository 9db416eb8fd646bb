"""Appending deliveries: event, dedup key and work item in one statement, many deliveries in one commit.

A key that exists already (in the table, in a transaction that is committing, or earlier in the same batch) leaves its
row out; what is left out is answered with the first one's id, read after the statement, when whoever held the key has
committed. Where a receipt has a nonce, the nonce decides. Receipts that are nothing but a delivery go the plain way; a
batch of the journal that holds an item, a nonce or a receipt without work goes the elaborate way (`events.elaborate`),
still in one statement and one commit.

Keys are inserted in key order, or two batches that share keys would deadlock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from uuid import UUID

import asyncpg

from events.codec import pack
from events.database import Database
from events.elaborate import APPEND_ELABORATE, Key, elaborate_rows, is_plain, without_clashes
from events.errors import BadRow, Unavailable
from events.journal import Journal
from events.types import DELIVERY_QUEUE, Accepted, Appended, Duplicate, Kind, Receipt

# `fresh` is looked through as an array: of 500 rows in half a millisecond. A join takes 25, and a hash table costs more
# for a few rows.
_APPEND = f"""
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::bytea[], $5::jsonb[], $6::bytea[],
    $7::smallint[], $8::bytea[])
    WITH ORDINALITY AS t(stream_id, workspace_id, source_id, key, metadata, headers, codec, body, ord)),
fresh AS (
  INSERT INTO delivery_key (source_id, key, stream_id)
  SELECT source_id, key, stream_id FROM input ORDER BY source_id, key, ord
  ON CONFLICT DO NOTHING RETURNING stream_id),
appended AS (
  INSERT INTO event (stream_id, version, workspace_id, source_id, type, metadata, headers, codec, body)
  SELECT stream_id, 0, workspace_id, source_id, 'delivery.received', metadata, headers, codec, body
  FROM input WHERE stream_id = ANY (ARRAY(SELECT stream_id FROM fresh)) ORDER BY ord
  RETURNING stream_id, workspace_id),
work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, workspace_id)
  SELECT stream_id, stream_id, {Kind.DELIVERY:d}, '{DELIVERY_QUEUE}', workspace_id FROM appended)
SELECT stream_id FROM appended
"""

_FIRST = """
SELECT k.source_id, k.key, k.stream_id FROM unnest($1::int[], $2::bytea[]) AS t(source_id, key)
JOIN delivery_key k USING (source_id, key)
"""

ROUNDS = 10
"""How often a batch is taken up again for receipts that others' keys came in the way of. Two are enough, but for a
race that is lost again and again."""

LARGE = 1 << 20
"""Bytes of a batch above which its bodies are compressed in a thread, so that the loop goes on with others."""


def delivery_journal(
    database: Database, *, max_waiting: int, committed: Callable[[Sequence[Receipt]], None] = lambda batch: None
) -> Journal[Receipt, Appended]:
    """The journal of an ingest process.

    Args:
        committed: called with each batch once it is durable; must not fail.
    """
    writer = DeliveryWriter(database)

    async def write(batch: Sequence[Receipt]) -> list[Appended]:
        appended = await writer.write(batch)
        committed(batch)
        return appended

    return Journal(write, size_of, max_waiting=max_waiting)


def size_of(receipt: Receipt) -> int:
    """The bytes that a receipt, with its items, adds to a batch, roughly."""
    size = len(receipt.body) + 512
    if receipt.items:
        size += sum(len(item.body) + len(item.headers) + 512 for item in receipt.items)
    return size


class DeliveryWriter:
    """Writes one batch of receipts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, batch: Sequence[Receipt]) -> list[Appended]:
        """Appends the batch; one result per receipt, in order. A receipt that is appended again under the same id,
        because nobody knew whether it was written, is Accepted again.

        One commit; a second one where a receipt with a nonce shares its key with another of the batch, or where another
        process takes its key at the same time.

        Raises:
            BadRow: the database refused some row's data; its receipt is not in the log, nor are its items.
            Unavailable: nothing is known to be written (OutcomeUnknown: it may have been).
        """
        seen: dict[UUID, Appended] = {}
        left = batch
        known: dict[Key, UUID] = {}
        for _ in range(ROUNDS):
            appended = await self._append(left, known.keys())
            if len(appended) == len(batch):  # as nearly always
                return [Accepted(r.stream_id) for r in batch]
            left = [r for r in left if r.stream_id not in appended]
            if left:
                known |= await self._known(left)
                seen |= _seen_before(left, known)
                left = [r for r in left if r.stream_id not in seen]
            if not left:
                return [seen.get(r.stream_id) or Accepted(r.stream_id) for r in batch]
        raise Unavailable("others keep writing the same deliveries; send it again")

    async def _append(self, batch: Sequence[Receipt], known: Set[Key]) -> set[UUID]:
        """The receipts that are new in the log. What is missing was seen before, or has to be tried again."""
        if not is_plain(batch):
            return await self._append_elaborate(batch, known)
        packed = [pack(r.body) for r in batch]
        rows = await self._database.fetch(
            _APPEND,
            [r.stream_id for r in batch],
            [r.workspace_id for r in batch],
            [r.source_id for r in batch],
            [r.key for r in batch],
            [r.metadata for r in batch],
            [r.headers for r in batch],
            [codec for codec, _ in packed],
            [body for _, body in packed],
        )
        return {row[0] for row in rows}

    async def _append_elaborate(self, batch: Sequence[Receipt], known: Set[Key]) -> set[UUID]:
        now = without_clashes(batch, known)
        large = sum(map(size_of, now)) > LARGE
        rows = await asyncio.to_thread(elaborate_rows, now) if large else elaborate_rows(now)
        try:
            answer = await self._database.fetch(APPEND_ELABORATE, *rows)
        except BadRow as error:
            if isinstance(error.__cause__, asyncpg.DivisionByZeroError):  # see APPEND_ELABORATE: nothing was written
                return set()
            raise
        return {r.stream_id for r in batch}.intersection(answer[0][1])  # without the items'

    async def _known(self, left: Sequence[Receipt]) -> dict[Key, UUID]:
        """The nonces and keys that are in the log by now, under which id."""
        keys = [(r.source_id, key) for r in left for key in (r.nonce, r.key) if key is not None]
        rows = await self._database.fetch(_FIRST, [source for source, _ in keys], [key for _, key in keys])
        return {(row[0], row[1]): row[2] for row in rows}


def _seen_before(left: Sequence[Receipt], known: Mapping[Key, UUID]) -> dict[UUID, Appended]:
    """What to answer for those that need no other try. One with a nonce does until its nonce is claimed, though its key
    is known.
    """
    seen: dict[UUID, Appended] = {}
    for r in left:
        first = known.get((r.source_id, r.key if r.nonce is None else r.nonce))
        if first is not None:
            seen[r.stream_id] = Accepted(first) if first == r.stream_id else Duplicate(first)
    return seen
