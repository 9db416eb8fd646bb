"""Refused requests are kept for a short time, within a quota that senders cannot get round.

What is promised about the disk, whoever posts whatever and from however many ingest processes:

- A source has at most `per_hour` rows and `bytes_per_hour` bytes of every hour. Who wants to keep something first locks
  the row of that source and hour in `rejected_hour`, where all processes count together, and keeps what fits.
- There are at most `hours` such rows per source (`hours_kept`), so that nothing more is kept when no relay deletes.
  The row of an hour goes after the requests of that hour, never before.
- So a source never has more than `hours × per_hour` rows and `hours × bytes_per_hour` bytes.

Rows of `rejected_hour` are locked in the order of their sources, as every batch does, or two batches would deadlock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from events.codec import pack
from events.database import Database

HOUR = 3600.0
ROW = 256
"""Bytes that a row is counted for beside its contents: the row itself and its places in three indexes."""
CHUNK = 200
"""Rows that are deleted by one statement."""

_LOCK = """
WITH this AS MATERIALIZED (SELECT date_trunc('hour', now(), 'UTC') AS hour)
INSERT INTO rejected_hour AS h (source_id, hour, kept, bytes)
SELECT s.source_id, this.hour, 0, 0 FROM unnest($1::int[]) AS s(source_id), this
WHERE (SELECT count(*) FROM rejected_hour o WHERE o.source_id = s.source_id AND o.hour <> this.hour) < $2
ORDER BY s.source_id
ON CONFLICT (source_id, hour) DO UPDATE SET kept = h.kept
RETURNING source_id, hour, kept, bytes
"""
_KEEP = """
WITH kept AS (
  INSERT INTO rejected (id, workspace_id, source_id, reason, metadata, headers, sealed, codec, body)
  SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::jsonb[], $6::bytea[], $7::bytea[],
    $8::smallint[], $9::bytea[]))
UPDATE rejected_hour h SET kept = h.kept + t.kept, bytes = h.bytes + t.bytes
FROM (SELECT source_id, count(*) AS kept, sum(bytes) AS bytes
      FROM unnest($3::int[], $10::bigint[]) AS s(source_id, bytes) GROUP BY source_id) AS t
WHERE h.source_id = t.source_id AND h.hour = $11
"""
# One relay at a time: a second one would only wait for the first one's rows. What is being deleted by nobody is tried
# again in a minute.
_DELETE = """
WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtextextended('headrace.rejected', 0)) AS mine),
gone AS (
  DELETE FROM rejected WHERE (SELECT mine FROM turn) AND id = ANY(ARRAY(
    SELECT id FROM rejected WHERE recorded_at < now() - make_interval(secs => $1) ORDER BY recorded_at LIMIT $2))
  RETURNING id)
SELECT count(*) FROM gone
"""
# A request may be recorded a little after the hour that it is counted in: its statement began before.
_DELETE_HOURS = """
WITH old AS (
  SELECT source_id, hour, hour + interval '65 min' AS over FROM rejected_hour
  WHERE hour + interval '65 min' < now() - make_interval(secs => $1))
DELETE FROM rejected_hour h USING old
WHERE h.source_id = old.source_id AND h.hour = old.hour
  AND NOT EXISTS (SELECT FROM rejected r WHERE r.recorded_at < old.over)
"""


class Rejection(msgspec.Struct, frozen=True):
    """A refused request on its way to be kept.

    Args:
        id: a UUIDv7 of the moment it was received.
        reason: why it was refused.
        metadata: JSON text: what was learned of it.
        headers: lines for people (see `events.headers`), without anything secret.
        sealed: what a check needs and people must not see, sealed; None without a secret_key.
        body: the exact bytes.
    """

    id: UUID
    workspace_id: int
    source_id: int
    reason: str
    metadata: str
    headers: bytes
    sealed: bytes | None
    body: bytes

    @property
    def size(self) -> int:
        """The bytes that it is counted for. The body's are those before compression, which a sender knows too."""
        parts = (self.body, self.headers, self.sealed or b"", self.metadata.encode(), self.reason.encode())
        return ROW + sum(map(len, parts))


class Use(msgspec.Struct, frozen=True):
    """What a source has used up of the hour that began at `hour` (Unix seconds)."""

    hour: float
    kept: int
    bytes: int

    def has_room(self, size: int, quota: Quota) -> bool:
        """Whether one more of `size` bytes fits."""
        return self.kept < quota.per_hour and self.bytes + size <= quota.bytes_per_hour

    def and_one(self, size: int) -> Use:
        """The use once it is kept."""
        return Use(self.hour, self.kept + 1, self.bytes + size)


class Quota(msgspec.Struct, frozen=True):
    """How much is kept of one source: rows and bytes per hour, and of how many hours at most."""

    per_hour: int
    bytes_per_hour: int
    hours: int


class Kept(msgspec.Struct, frozen=True):
    """The request is in the table. `use`: of its source, after it."""

    use: Use


class Full(msgspec.Struct, frozen=True):
    """The quota has no room for the request, which is not kept. `use`: of its source; None: it has too many hours."""

    use: Use | None


def hours_kept(retention: float) -> int:
    """How many hours of refused requests a source may have.

    Those of `retention` seconds, one that has just begun, one that is just over, and one for a relay that is late.
    """
    return math.ceil(retention / HOUR) + 3


async def keep(database: Database, batch: Sequence[Rejection], quota: Quota) -> list[Kept | Full]:
    """Keeps what fits of a batch, in one commit; one result per request, in order.

    Raises:
        BadRow: the database refused some row's data; nothing of the batch was kept.
        Unavailable: nothing is known to be kept.
    """
    async with database.connection() as connection, connection.transaction():
        locked = await connection.fetch(_LOCK, sorted({one.source_id for one in batch}), quota.hours)
        uses = {row["source_id"]: Use(row["hour"].timestamp(), row["kept"], row["bytes"]) for row in locked}
        results = fitting(batch, uses, quota)
        fits = [one for one, result in zip(batch, results, strict=True) if isinstance(result, Kept)]
        if fits:
            await connection.execute(_KEEP, *_columns(fits), locked[0]["hour"])
    return results


def fitting(batch: Sequence[Rejection], uses: dict[int, Use], quota: Quota) -> list[Kept | Full]:
    """What of a batch fits, first come, first served. `uses`: by source; without an entry nothing fits."""
    results: list[Kept | Full] = []
    uses = dict(uses)
    for one in batch:
        use = uses.get(one.source_id)
        if use is None or not use.has_room(one.size, quota):
            results.append(Full(use))
        else:
            uses[one.source_id] = use.and_one(one.size)
            results.append(Kept(uses[one.source_id]))
    return results


def _columns(fits: Sequence[Rejection]) -> tuple[list[Any], ...]:
    packed = [pack(one.body) for one in fits]
    return (
        [one.id for one in fits],
        [one.workspace_id for one in fits],
        [one.source_id for one in fits],
        [one.reason for one in fits],
        [one.metadata for one in fits],
        [one.headers for one in fits],
        [one.sealed for one in fits],
        [codec for codec, _ in packed],
        [body for _, body in packed],
        [one.size for one in fits],
    )


async def delete_old(database: Database, retention: float, chunk: int = CHUNK) -> int:
    """Deletes what is older than `retention` seconds, and the hours that have nothing left; how many requests.

    In statements of `chunk` rows, so that none of them is long. Safe in several processes at once.
    """
    total = 0
    while gone := int(await database.fetchval(_DELETE, retention, chunk)):
        total += gone
    await database.fetch(_DELETE_HOURS, retention)
    return total
