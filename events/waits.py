"""Deliveries and the runs that wait for them, by the keys under which they meet.

Each side writes and commits before it reads, so that at least one of them sees the other: the router of a delivery
notes the arrivals and then looks for subscriptions (`Routing.arrivals`); a run subscribes (`Subscribe`) and then asks
for arrivals. Both may see each other; the run takes a delivery once.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from events.database import Database
from events.effects import Arrival

MOST_ARRIVALS = 1_000
"""How many arrivals under one key `arrivals` answers with, the newest."""

# In the order of the primary key: routers that note the same delivery do not deadlock.
_NOTE = """
INSERT INTO arrival (source, expression, key, delivery_id, type)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::uuid[], $5::text[])
  AS t(source, expression, key, delivery_id, type)
ORDER BY source, expression, key, delivery_id
ON CONFLICT DO NOTHING
"""
_ARRIVALS = """
SELECT delivery_id FROM arrival
WHERE source = $1 AND expression = $2 AND key = $3 AND at >= to_timestamp($4) ORDER BY at DESC LIMIT $5
"""


class WaitExpression(msgspec.Struct, frozen=True):
    """The event's side of a `match` in any workflow ever applied: asked of each delivery of `source`.

    `expression`: the 16 bytes that name `text`, which is CEL.
    """

    source: str
    expression: bytes
    text: str


class NewArrivals(msgspec.Struct, frozen=True):
    """A delivery with what it is found by. `type`: its event type."""

    delivery_id: UUID
    type: str
    arrivals: tuple[Arrival, ...]


async def expressions(database: Database) -> list[WaitExpression]:
    """All expressions; read with the definitions, for they change with the same epoch."""
    return [
        WaitExpression(*row) for row in await database.fetch("SELECT source, expression, text FROM wait_expression")
    ]


async def note(database: Database, deliveries: Sequence[NewArrivals]) -> list[None]:
    """Writes down what deliveries are found by, and commits. Before their routing; doing it again changes nothing.

    One answer per delivery, so that a journal can write many in one commit.
    """
    rows = [(one, arrival) for one in deliveries for arrival in one.arrivals]
    if rows:
        await database.fetch(
            _NOTE,
            [arrival.source for _, arrival in rows],
            [arrival.expression for _, arrival in rows],
            [arrival.key for _, arrival in rows],
            [one.delivery_id for one, _ in rows],
            [one.type for one, _ in rows],
        )
    return [None] * len(deliveries)


async def arrivals(database: Database, source: str, expression: bytes, key: bytes, since: float) -> list[UUID]:
    """The deliveries of a source with this key that came at `since` (Unix seconds) or later, oldest first.

    They came when they were noted. Of more than `MOST_ARRIVALS`, the newest.
    """
    rows = await database.fetch(_ARRIVALS, source, expression, key, since, MOST_ARRIVALS)
    return [row[0] for row in rows][::-1]
