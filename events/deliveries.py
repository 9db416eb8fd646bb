"""Appending deliveries: event, dedup key and work item in one statement, many deliveries in one commit.

Keys are inserted in key order, or two batches that share keys would deadlock. A key that exists already (in the table,
in a transaction that is committing, or earlier in the same batch) leaves its row out; what is left out is answered with
the first one's id, read after the statement, when whoever held the key has committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from events.codec import pack
from events.database import Database
from events.errors import Unavailable
from events.journal import Journal
from events.types import DELIVERY_QUEUE, Accepted, Appended, Duplicate, Kind, Receipt

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
  FROM input JOIN fresh USING (stream_id) ORDER BY ord
  RETURNING stream_id),
work AS (
  INSERT INTO work_item (id, stream_id, kind, queue)
  SELECT stream_id, stream_id, {Kind.DELIVERY:d}, '{DELIVERY_QUEUE}' FROM appended)
SELECT stream_id FROM appended
"""

_FIRST = """
SELECT k.source_id, k.key, k.stream_id FROM unnest($1::int[], $2::bytea[]) AS t(source_id, key)
JOIN delivery_key k USING (source_id, key)
"""


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

    return Journal(write, lambda receipt: len(receipt.body) + 512, max_waiting=max_waiting)


class DeliveryWriter:
    """Writes one batch of receipts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, batch: Sequence[Receipt]) -> list[Appended]:
        """Appends the batch in one commit; one result per receipt, in order.

        Raises:
            BadRow: the database refused some row's data; nothing of the batch was written.
            Unavailable: nothing is known to be written (OutcomeUnknown: it may have been).
        """
        packed = [pack(r.body) for r in batch]
        appended = {
            row[0]
            for row in await self._database.fetch(
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
        }
        if len(appended) == len(batch):
            return [Accepted(r.stream_id) for r in batch]
        first = await self._first([r for r in batch if r.stream_id not in appended])
        return [
            Accepted(r.stream_id) if r.stream_id in appended else Duplicate(first[r.source_id, r.key]) for r in batch
        ]

    async def _first(self, repeated: Sequence[Receipt]) -> dict[tuple[int, bytes], UUID]:
        rows = await self._database.fetch(_FIRST, [r.source_id for r in repeated], [r.key for r in repeated])
        first = {(row[0], row[1]): row[2] for row in rows}
        if any((r.source_id, r.key) not in first for r in repeated):
            raise Unavailable("a duplicate's first delivery is not visible yet")
        return first
