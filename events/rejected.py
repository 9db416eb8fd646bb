"""Refused requests as staff reads them, and the note of which delivery one became.

`admitted_as` is set after the delivery was appended. A crash between the two is healed by checking again: the delivery
is met by its dedup key, and says by its metadata that it was made of this very request.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from events.codec import unpack
from events.database import Database

_ROWS = """
SELECT r.id, r.workspace_id, r.source_id, s.slug, r.reason, r.metadata, r.admitted_as,
  e.metadata ->> 'rejected' = r.id::text AS by_staff, {contents}
FROM rejected r LEFT JOIN source s ON s.id = r.source_id
LEFT JOIN event e ON e.stream_id = r.admitted_as AND e.version = 0
"""
_LIST = (
    _ROWS.format(contents="''::bytea AS headers, NULL::bytea AS sealed, 0 AS codec, ''::bytea AS body")
    + """
WHERE ($1::text IS NULL OR s.slug = $1) AND ($2::uuid IS NULL OR r.id < $2) AND (NOT $3 OR r.admitted_as IS NULL)
ORDER BY r.id DESC LIMIT $4
"""
)
_ONE = _ROWS.format(contents="r.headers, r.sealed, r.codec, r.body") + "WHERE r.id = $1"


class KeptRejection(msgspec.Struct, frozen=True, kw_only=True):
    """A refused request as it was kept. In lists `headers`, `sealed` and `body` are left out.

    Args:
        source: the slug; None if there is no such source any more.
        admitted_as: the delivery that it became, or, if not `by_staff`, that the sender had made of it meanwhile.
    """

    id: UUID
    workspace_id: int
    source_id: int
    source: str | None
    reason: str
    metadata: dict[str, Any]
    headers: bytes
    sealed: bytes | None
    admitted_as: UUID | None
    by_staff: bool
    body: bytes


async def rejections(
    database: Database,
    *,
    source: str | None = None,
    before: UUID | None = None,
    pending: bool = False,
    limit: int = 20,
) -> list[KeptRejection]:
    """The newest refused requests first, without their bodies. `pending`: only those that were not admitted."""
    return [_kept(row) for row in await database.fetch(_LIST, source, before, pending, limit)]


async def rejection(database: Database, id: UUID) -> KeptRejection | None:
    """One refused request, with its body."""
    rows = await database.fetch(_ONE, id)
    return _kept(rows[0]) if rows else None


def _kept(row: Any) -> KeptRejection:
    return KeptRejection(
        id=row["id"],
        workspace_id=row["workspace_id"],
        source_id=row["source_id"],
        source=row["slug"],
        reason=row["reason"],
        metadata=msgspec.json.decode(row["metadata"]),
        headers=row["headers"],
        sealed=row["sealed"],
        admitted_as=row["admitted_as"],
        by_staff=bool(row["by_staff"]),
        body=unpack(row["codec"], row["body"]),
    )


async def admitted(database: Database, id: UUID, delivery: UUID) -> bool:
    """Notes which delivery a refused request is; whether that delivery was made of this very request.

    Noting it again changes nothing.
    """
    await database.fetch("UPDATE rejected SET admitted_as = $2 WHERE id = $1", id, delivery)
    made_of = "SELECT metadata ->> 'rejected' FROM event WHERE stream_id = $1 AND version = 0"
    return bool(await database.fetchval(made_of, delivery) == str(id))


async def first_delivery(database: Database, source_id: int, key: bytes) -> UUID | None:
    """The delivery that has this dedup key, if there is one."""
    found: UUID | None = await database.fetchval(
        "SELECT stream_id FROM delivery_key WHERE source_id = $1 AND key = $2", source_id, key
    )
    return found
