"""Schedules: what `apply` stores of them, which are due, and firing one, at most once for each of its times.

Firing is one statement (`fire_schedule`, migration 0004): it moves the schedule on from the time that the caller saw
and appends the deliveries with their work items. Of several relays that saw the same time one moves it; one that dies
before the commit has done nothing, and one that dies after it has left work that is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from events import tables
from events.database import Database
from events.ids import uuid7

_UPCOMING = """
SELECT workspace_id, workflow, expression, tz, catch_up, extract(epoch FROM next_at)::float8,
  extract(epoch FROM now())::float8
FROM schedule ORDER BY next_at, workflow, expression, tz LIMIT $1
"""
_FIRE = "SELECT fire_schedule($1, $2, $3, $4, to_timestamp($5), to_timestamp($6), $7, $8, $9)"


class ScheduleRow(msgspec.Struct, frozen=True):
    """A schedule of a workflow. `next_at`: Unix seconds, infinite when it never fires again."""

    workspace_id: int
    workflow: str
    expression: str
    tz: str
    catch_up: str
    next_at: float


class Upcoming(msgspec.Struct, frozen=True):
    """The schedules that are due first, in that order, and the database's time, Unix seconds (0 without any)."""

    now: float
    rows: tuple[ScheduleRow, ...]


async def upcoming(database: Database, most: int) -> Upcoming:
    """The schedules that are due first, `most` of them."""
    rows = await database.fetch(_UPCOMING, most)
    return Upcoming(rows[0][6] if rows else 0.0, tuple(ScheduleRow(*list(row)[:6]) for row in rows))


async def fire(database: Database, row: ScheduleRow, next_at: float, times: Sequence[str], missed: int) -> list[UUID]:
    """Makes a delivery for each time and moves the schedule on; their ids, or none where another was quicker or the
    schedule is gone.

    Args:
        row: as it was read.
        next_at: Unix seconds, or infinite.
        times: at most 100, RFC 3339 with an offset and no fraction, from `row.next_at` to now.
        missed: how many before the first are left out.

    Raises:
        BadRow: a time is not due, or there are too many. Nothing was written.
    """
    ids = [uuid7(database.clock.now()) for _ in times]
    won = await database.fetchval(
        _FIRE,
        row.workspace_id,
        row.workflow,
        row.expression,
        row.tz,
        row.next_at,
        next_at,
        sorted(ids),
        list(times),
        missed,
    )
    return sorted(ids) if won else []


async def store(connection: AsyncConnection, workspace_id: int, workflow: str, rows: Sequence[ScheduleRow]) -> None:
    """Makes these the schedules of a workflow. One that stands there already keeps its time."""
    table = tables.schedule
    own = (table.c.workspace_id == workspace_id) & (table.c.workflow == workflow)
    kept = [(row.expression, row.tz) for row in rows]
    gone = delete(table).where(own)
    if kept:
        gone = gone.where(tuple_(table.c.expression, table.c.tz).not_in(kept))
    await connection.execute(gone)
    for row in rows:
        values = msgspec.structs.asdict(row) | {"next_at": func.to_timestamp(row.next_at)}
        statement = insert(table).values(values)
        key = ["workspace_id", "workflow", "expression", "tz"]
        changed = {"catch_up": statement.excluded.catch_up}
        await connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed))
