"""Reading the log: a stream in its order, what is still to be done for it, and the heads of runs. Lists of deliveries
are in `events.lists`.

Lists page by id: ids are UUIDv7, so that newest first is id descending, and the last id seen is the cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import Select, func, select
from sqlalchemy.sql.elements import ColumnElement

from events import tables
from events.codec import unpack
from events.database import Database, translated
from events.errors import NotFound
from events.types import Event, Kind

_STREAM = """
SELECT stream_id, version, type, recorded_at, source_id, metadata, headers, codec, body FROM event
WHERE stream_id = $1 AND version BETWEEN $2 AND $3 ORDER BY version
"""
_OF_TYPE = _STREAM.replace("version BETWEEN $2 AND $3", "type = $2")
_RECEIPTS = """
SELECT stream_id, version, type, recorded_at, source_id, metadata, headers, codec, body FROM event
WHERE stream_id = ANY ($1::uuid[]) AND version = 0
"""
_LAST = 2**31 - 1


async def stream(database: Database, id: UUID, first: int = 0, last: int = _LAST) -> list[Event]:
    """The events of a delivery or a run from version `first` to `last`, in their order; empty when there are none."""
    return [_event(row) for row in await database.fetch(_STREAM, id, first, last)]


async def of_type(database: Database, id: UUID, type: str) -> list[Event]:
    """The events of one type of a delivery or a run, in version order."""
    return [_event(row) for row in await database.fetch(_OF_TYPE, id, type)]


async def receipts(database: Database, ids: Sequence[UUID]) -> dict[UUID, Event]:
    """The first events of several deliveries."""
    events = [_event(row) for row in await database.fetch(_RECEIPTS, list(ids))]
    return {event.stream_id: event for event in events}


async def anchor(database: Database, id: UUID, version: int) -> tuple[int, int] | None:
    """(tx, position) of one event: no other event, in this or a restored log, has both."""
    rows = await database.fetch(
        "SELECT tx::text::bigint, position FROM event WHERE stream_id = $1 AND version = $2", id, version
    )
    return (rows[0][0], rows[0][1]) if rows else None


def _event(row: asyncpg.Record) -> Event:
    return Event(
        stream_id=row["stream_id"],
        version=row["version"],
        type=row["type"],
        recorded_at=row["recorded_at"].timestamp(),
        source_id=row["source_id"],
        metadata=msgspec.json.decode(row["metadata"]) if row["metadata"] else {},
        headers=row["headers"],
        body=None if row["body"] is None else unpack(row["codec"], row["body"]),
    )


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the list of runs. `ended_at` is None while it goes on."""

    id: UUID
    workflow: str
    status: str
    version: int
    delivery_id: UUID | None
    replay_of: UUID | None
    parent: UUID | None = None
    started_at: float
    ended_at: float | None
    error: str | None


class OpenWork(msgspec.Struct, frozen=True, kw_only=True):
    """What is still to be done for a delivery or a run. `kind`: delivery, replay or run.

    `due_in`: seconds until somebody may take it, or until its holder's lease runs out; negative when overdue.
    """

    id: UUID
    kind: str
    queue: str
    due_in: float
    attempt: int
    owner: str | None
    only_workflow: str | None
    error: str | None


async def open_work(database: Database, stream_id: UUID) -> list[OpenWork]:
    """The work items of one stream, the one that is due first in front; empty when all is done."""
    table = tables.work_item
    query = (
        select(table, (func.extract("epoch", table.c.due_at - func.now())).label("due_in"))
        .where(table.c.stream_id == stream_id)
        .order_by(table.c.due_at)
    )
    with translated():
        async with database.engine.connect() as connection:
            rows = list(await connection.execute(query))
    return [
        OpenWork(
            id=row.id,
            kind=Kind(row.kind).name.lower(),
            queue=row.queue,
            due_in=float(row.due_in),
            attempt=row.attempt,
            owner=row.owner,
            only_workflow=row.only_workflow,
            error=row.error,
        )
        for row in rows
    ]


async def runs(
    database: Database,
    *,
    limit: int = 20,
    before: UUID | None = None,
    delivery_id: UUID | None = None,
    status: str | None = None,
    workflow: str | None = None,
    workspace_id: int | None = None,
) -> list[RunSummary]:
    """The newest runs first, of all workspaces unless one is named."""
    table = tables.run
    query = select(table)
    for column, value in (
        (table.c.delivery_id, delivery_id),
        (table.c.status, status),
        (table.c.workflow, workflow),
        (table.c.workspace_id, workspace_id),
    ):
        if value is not None:
            query = query.where(column == value)
    return [_run(row) for row in await _page(database, query, table.c.id, limit, before)]


async def workspace_of(database: Database, run_id: UUID) -> int:
    """Whose a run is.

    Raises:
        NotFound: there is no such run.
    """
    found = await database.fetchval("SELECT workspace_id FROM run WHERE id = $1", run_id)
    if found is None:
        raise NotFound(f"no run has the id {run_id}; `headrace runs` lists them")
    return int(found)


async def run(database: Database, id: UUID) -> RunSummary | None:
    """The head of one run."""
    rows = await _page(database, select(tables.run).where(tables.run.c.id == id), tables.run.c.id, 1, None)
    return _run(rows[0]) if rows else None


def _run(row: Any) -> RunSummary:
    return RunSummary(
        id=row.id,
        workflow=row.workflow,
        status=row.status,
        version=row.version,
        delivery_id=row.delivery_id,
        replay_of=row.replay_of,
        parent=row.parent,
        started_at=row.started_at.timestamp(),
        ended_at=row.ended_at.timestamp() if row.ended_at else None,
        error=row.error,
    )


async def _page(
    database: Database, query: Select[Any], id: ColumnElement[UUID], limit: int, before: UUID | None
) -> list[Any]:
    if before is not None:
        query = query.where(id < before)
    with translated():
        async with database.engine.connect() as connection:
            return list(await connection.execute(query.order_by(id.desc()).limit(limit)))
