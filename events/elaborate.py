"""The append of receipts that have more than a key: a nonce, the items of a batch, or no work of their own.

The rules:
- A nonce is claimed by whatever carries it first: for its own id when it is new, for the first one's when its key is
  known. So a sender's second try that is signed anew leaves no nonce behind that somebody could send with another body.
- A nonce that is known makes its receipt a duplicate, and none of its other keys is claimed: whoever repeats a nonce
  with an id of their own making keeps no delivery of that id out.
- No key is left for what is not in the log. Where another transaction takes a receipt's key after its nonce was
  claimed, the whole statement is undone (a division by zero: the one error that needs no function, and that no data can
  cause) and tried again, when that key can be seen.
- Items are claimed only where their batch is new; of them, each key decides for itself.

Keys are inserted in three phases, each complete before the next: nonces, batches' own keys, all other keys; in key
order within each. A key belongs to one phase for good: nonces are hashed apart from ids, and the same request is a
batch whenever it comes; but a delivery may come by itself today and in a batch tomorrow, which is why plain receipts
and items share a phase. So all transactions lock keys in one and the same order, and do not deadlock.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any
from uuid import UUID

from events.codec import pack
from events.types import DELIVERY_QUEUE, Kind, Receipt

Key = tuple[int, bytes]
"""A source, and an id or a nonce of its own."""

# A phase is complete before the next because that one counts its rows. `(… IN …) IS TRUE` is looked up in a hash table;
# without IS TRUE it becomes a join, which costs the product of the two lengths.
APPEND_ELABORATE = f"""
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bool[], $4::bool[], $5::int[], $6::int[], $7::bytea[], $8::bytea[],
    $9::jsonb[], $10::bytea[], $11::smallint[], $12::bytea[])
    WITH ORDINALITY AS t(stream_id, batch_id, is_batch, routed, workspace_id, source_id, key, nonce, metadata, headers,
      codec, body, ord)),
nonced AS MATERIALIZED (
  SELECT source_id, nonce, stream_id, ord,
    (SELECT k.stream_id FROM delivery_key k WHERE k.source_id = i.source_id AND k.key = i.key) AS first
  FROM input i WHERE nonce IS NOT NULL),
nonces AS (
  INSERT INTO delivery_key (source_id, key, stream_id)
  SELECT source_id, nonce, coalesce(first, stream_id) FROM nonced ORDER BY source_id, nonce, ord
  ON CONFLICT DO NOTHING RETURNING source_id, key, stream_id),
new AS MATERIALIZED (
  SELECT stream_id FROM nonced
  WHERE ((source_id, nonce, stream_id) IN (SELECT source_id, key, stream_id FROM nonces)) IS TRUE),
batches AS (
  INSERT INTO delivery_key (source_id, key, stream_id)
  SELECT source_id, key, stream_id FROM input
  WHERE (SELECT count(*) FROM nonces) >= 0
    AND is_batch AND (nonce IS NULL OR stream_id IN (SELECT stream_id FROM new))
  ORDER BY source_id, key, ord
  ON CONFLICT DO NOTHING RETURNING stream_id),
others AS (
  INSERT INTO delivery_key (source_id, key, stream_id)
  SELECT source_id, key, stream_id FROM input
  WHERE (SELECT count(*) FROM nonces) + (SELECT count(*) FROM batches) >= 0
    AND CASE
      WHEN is_batch THEN false
      WHEN batch_id IS NOT NULL THEN batch_id IN (SELECT stream_id FROM batches)
      WHEN nonce IS NOT NULL THEN stream_id IN (SELECT stream_id FROM new)
      ELSE true END
  ORDER BY source_id, key, ord
  ON CONFLICT DO NOTHING RETURNING stream_id),
fresh AS (SELECT stream_id FROM batches UNION ALL SELECT stream_id FROM others),
appended AS (
  INSERT INTO event (stream_id, version, workspace_id, source_id, type, metadata, headers, codec, body)
  SELECT stream_id, 0, workspace_id, source_id, 'delivery.received', metadata, headers, codec, body
  FROM input WHERE (stream_id IN (SELECT stream_id FROM fresh)) IS TRUE ORDER BY ord
  RETURNING stream_id),
work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, workspace_id)
  SELECT stream_id, stream_id, {Kind.DELIVERY:d}, '{DELIVERY_QUEUE}', workspace_id FROM input
  WHERE routed AND (stream_id IN (SELECT stream_id FROM appended)) IS TRUE)
SELECT
  1 / CASE WHEN EXISTS (SELECT FROM new WHERE stream_id NOT IN (SELECT stream_id FROM fresh)) THEN 0 ELSE 1 END,
  ARRAY(SELECT stream_id FROM appended)
"""


def is_plain(batch: Sequence[Receipt]) -> bool:
    """Whether every receipt is nothing but a delivery with a key."""
    return all(r.routed and r.nonce is None and not r.items for r in batch)


def without_clashes(batch: Sequence[Receipt], known: Set[Key]) -> list[Receipt]:
    """The receipts that can go into one statement, in their order, which is the log's; one at least.

    A receipt with a nonce waits for the next where a batch or an earlier one here may take its key: which of them is
    new is known only when the nonces are. What comes with the nonce of one that waits, waits behind it.

    Args:
        known: keys that the log is known to have, with their sources; nobody waits for these.
    """
    items = {(item.source_id, item.key) for r in batch for item in r.items}
    taken: set[Key] = set()
    carried: set[Key] = set()
    waited_for: set[Key] = set()
    now: list[Receipt] = []
    for r in batch:
        key = (r.source_id, r.key)
        if r.nonce is not None:
            nonce = (r.source_id, r.nonce)
            if nonce in waited_for or (nonce not in carried and key not in known and (key in taken or key in items)):
                waited_for.add(nonce)
                continue
            if nonce in carried:  # it is a duplicate and takes nothing
                now.append(r)
                continue
            carried.add(nonce)
        taken.add(key)
        now.append(r)
    return now or list(batch[:1])


def elaborate_rows(batch: Sequence[Receipt]) -> tuple[list[Any], ...]:
    """The arguments of `APPEND_ELABORATE`: a row for each receipt and, after it, for each of its items."""
    rows: list[tuple[Receipt, UUID | None]] = []
    for r in batch:
        rows.append((r, None))
        rows.extend((item, r.stream_id) for item in r.items)
    packed = [pack(r.body) for r, _ in rows]
    return (
        [r.stream_id for r, _ in rows],
        [batch_id for _, batch_id in rows],
        [bool(r.items) for r, _ in rows],
        [r.routed for r, _ in rows],
        [r.workspace_id for r, _ in rows],
        [r.source_id for r, _ in rows],
        [r.key for r, _ in rows],
        [r.nonce if batch_id is None else None for r, batch_id in rows],
        [r.metadata for r, _ in rows],
        [r.headers for r, _ in rows],
        [codec for codec, _ in packed],
        [body for _, body in packed],
    )
