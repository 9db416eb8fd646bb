"""Lists of deliveries for people, newest first, each with what became of it; and the items of one batch.

Lists page by id: ids are UUIDv7, so that newest first is id descending, and the last id seen is the cursor. A filter is
a look at one delivery after the other, from the newest on, until the page is full: quick for what is frequent.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy import Select, func, select
from sqlalchemy.sql.elements import ColumnElement

from events import tables
from events.database import Database, translated
from events.errors import NotFound
from events.ids import item_ids
from events.types import Kind


class DeliveryState(StrEnum):
    """What became of a delivery."""

    WAITING = "waiting"  # not routed yet
    ROUTED = "routed"  # at least one run came of it
    HELD = "held"  # routed, and waits in a lane for its run
    SETTLED = "settled"  # it waited in a lane, and came to no run of its own; its history says why
    UNWANTED = "unwanted"  # routed, and no workflow took it
    PARKED = "parked"  # whoever routed it died of it
    BATCH = "batch"  # its items are routed
    HANDSHAKE = "handshake"  # answered, and nothing to route


class DeliverySummary(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the list of deliveries. `items`: how many events came in a batch. `size`: bytes of the body."""

    id: UUID
    received_at: float
    source: str | None
    type: str
    size: int
    runs: int
    state: DeliveryState
    items: int = 0


_received = tables.event


def _said(*types: str) -> ColumnElement[bool]:
    later = tables.event.alias()
    return select(later.c.version).where(later.c.stream_id == _received.c.stream_id, later.c.type.in_(types)).exists()


_of_this = tables.run.c.delivery_id == _received.c.stream_id
_has_run = select(tables.run.c.id).where(_of_this).exists()
_has_work = (
    select(tables.work_item.c.id)
    .where(tables.work_item.c.id == _received.c.stream_id, tables.work_item.c.kind == int(Kind.DELIVERY))
    .exists()
)
_held = select(tables.start_request.c.seq).where(tables.start_request.c.delivery_id == _received.c.stream_id).exists()
_settled = _said("delivery.settled")
_routed, _parked = _said("delivery.routed"), _said("delivery.parked")
_batch, _handshake = _received.c.metadata.has_key("items"), _received.c.metadata.has_key("handshake")
_alone = ~_batch & ~_handshake

_IS = {
    DeliveryState.WAITING: _has_work & ~_routed & ~_parked & _alone,
    DeliveryState.ROUTED: _routed & _has_run,
    DeliveryState.HELD: _routed & ~_has_run & _held,
    DeliveryState.SETTLED: _routed & ~_has_run & ~_held & _settled,
    DeliveryState.UNWANTED: _routed & ~_has_run & ~_held & ~_settled,
    DeliveryState.PARKED: _parked & ~_routed,
    DeliveryState.BATCH: _batch,
    DeliveryState.HANDSHAKE: _handshake,
}
_STATE = sa.case(
    (_batch, DeliveryState.BATCH.value),
    (_handshake, DeliveryState.HANDSHAKE.value),
    (_routed & _has_run, DeliveryState.ROUTED.value),
    (_routed & _held, DeliveryState.HELD.value),
    (_routed & _settled, DeliveryState.SETTLED.value),
    (_routed, DeliveryState.UNWANTED.value),
    (_parked, DeliveryState.PARKED.value),
    else_=DeliveryState.WAITING.value,
)


async def deliveries(
    database: Database,
    *,
    limit: int = 20,
    before: UUID | None = None,
    state: DeliveryState | None = None,
    source: str | None = None,
    type: str | None = None,
) -> list[DeliverySummary]:
    """The newest deliveries first, the items of batches among them.

    Args:
        before: only those before this id.
        source: the slug of their source.
        type: their event type; `*` stands for anything.

    Raises:
        NotFound: there is no such source.
    """
    query = _summaries().order_by(_received.c.stream_id.desc()).limit(limit)
    if before is not None:
        query = query.where(_received.c.stream_id < before)
    if state is not None:
        query = query.where(_IS[state])
    if source is not None:
        query = query.where(_received.c.source_id == await _source_id(database, source))
    if type is not None:
        event_type = _received.c.metadata["event_type"].astext
        query = query.where(event_type.like(_pattern(type), escape="\\") if "*" in type else event_type == type)
    return await _fetch(database, query)


async def items(database: Database, batch: UUID, count: int) -> list[DeliverySummary | None]:
    """What became of each of the `count` items of a batch; None where the same item had come before."""
    ids = item_ids(batch, count)
    these = _received.c.stream_id == sa.any_(sa.literal(ids, sa.ARRAY(sa.Uuid)))
    found = {one.id: one for one in await _fetch(database, _summaries().where(these))}
    return [found.get(id) for id in ids]


def _summaries() -> Select[tuple[object, ...]]:
    facts = _received.c.metadata
    return (
        select(
            _received.c.stream_id,
            _received.c.recorded_at,
            tables.source.c.slug,
            facts["event_type"].astext.label("event_type"),
            facts["items"].as_integer().label("items"),
            func.coalesce(facts["size"].as_integer(), func.octet_length(_received.c.body)).label("size"),
            select(func.count()).select_from(tables.run).where(_of_this).scalar_subquery().label("runs"),
            _STATE.label("state"),
        )
        .select_from(_received.outerjoin(tables.source, tables.source.c.id == _received.c.source_id))
        .where(_received.c.type == "delivery.received", _received.c.version == 0)
    )


async def _fetch(database: Database, query: Select[tuple[object, ...]]) -> list[DeliverySummary]:
    with translated():
        async with database.engine.connect() as connection:
            rows: Sequence[sa.Row[tuple[object, ...]]] = (await connection.execute(query)).all()
    return [
        DeliverySummary(
            id=row.stream_id,
            received_at=row.recorded_at.timestamp(),
            source=row.slug,
            type=row.event_type or "",
            size=row.size or 0,
            runs=row.runs,
            state=DeliveryState(row.state),
            items=row.items or 0,
        )
        for row in rows
    ]


async def _source_id(database: Database, slug: str) -> int:
    rows = await database.fetch("SELECT id FROM source WHERE slug = $1", slug)
    if not rows:
        raise NotFound(f"no source has the name {slug!r}; `headrace apply` makes one")
    return int(rows[0][0])


def _pattern(glob: str) -> str:
    """The LIKE pattern for a text in which `*` stands for anything."""
    for sign in ("\\", "%", "_"):
        glob = glob.replace(sign, "\\" + sign)
    return glob.replace("*", "%")
