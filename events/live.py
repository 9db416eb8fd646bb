"""Reading the log as it grows: the events of many runs in one question, and those of workspaces in commit order.

The whole log is read by (tx, position), and only below the oldest transaction that still runs: a transaction that began
earlier may commit later, and nothing of it is passed over. What is above is left for the next reading. A transaction
that writes anywhere on the server holds the readers back for as long as it runs.

A body is read up to `HEAD` bytes: readers want to know what happened, and the outputs are in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import zstandard

from events.codec import RAW, unpack
from events.database import Database

HEAD = 132 * 1024
"""Bytes of a body as it is kept; a zstd frame's first block is never longer."""
PAGE = 500
"""Events that one reading answers for each run, or looks at in the whole log."""

_OF_RUNS = f"""
SELECT e.stream_id, e.version, e.type, e.recorded_at, e.workspace_id, e.codec, e.body, e.whole
FROM unnest($1::uuid[], $2::int[]) AS w(id, after) CROSS JOIN LATERAL (
  SELECT stream_id, version, type, recorded_at, workspace_id, codec, substr(body, 1, {HEAD}) AS body,
    octet_length(body) <= {HEAD} AS whole
  FROM event WHERE stream_id = w.id AND version > w.after ORDER BY version LIMIT {PAGE}) AS e
ORDER BY e.stream_id, e.version
"""
# The horizon comes with the rows, of the same snapshot. The last row is always there and says how far this looked.
_OF_WORKSPACES = f"""
WITH page AS MATERIALIZED (
  SELECT tx, position, stream_id, version, type, recorded_at, workspace_id, codec,
    octet_length(body) <= {HEAD} AS whole,
    CASE WHEN workspace_id = ANY ($3::int[]) AND NOT starts_with(type, 'delivery.')
      THEN substr(body, 1, {HEAD}) END AS body
  FROM event
  WHERE (tx, position) > ($1::text::xid8, $2::bigint) AND tx < pg_snapshot_xmin(pg_current_snapshot())
  ORDER BY tx, position LIMIT {PAGE}),
found AS (
  SELECT tx::text::bigint AS tx, position, stream_id, version, type, recorded_at, workspace_id, codec, body, whole
  FROM page WHERE workspace_id = ANY ($3::int[]) AND NOT starts_with(type, 'delivery.')),
looked AS (SELECT count(*) AS many, max(tx::text::bigint) AS tx FROM page)
SELECT * FROM found
UNION ALL
SELECT CASE WHEN many < {PAGE} THEN pg_snapshot_xmin(pg_current_snapshot())::text::bigint ELSE tx END,
  CASE WHEN many < {PAGE} THEN -1
    ELSE (SELECT max(p.position) FROM page p WHERE p.tx::text::bigint = looked.tx) END,
  NULL, many::int, NULL, NULL, NULL, NULL, NULL,
  EXISTS (SELECT FROM event WHERE tx >= pg_snapshot_xmin(pg_current_snapshot())
    AND (tx, position) > ($1::text::xid8, $2::bigint))
FROM looked ORDER BY 1, 2, 3
"""
_HEAD_OF_RUN = "SELECT workspace_id, version FROM run WHERE id = $1"
_HORIZON = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


class Cursor(NamedTuple):
    """A place in the log, after which one reads: an event's (tx, position), or (tx, -1) before all of a transaction."""

    tx: int
    position: int


class LogRow(msgspec.Struct, frozen=True):
    """An event of a run. `body` is its JSON, or its beginning if not `whole`. `recorded_at`: Unix seconds."""

    run_id: UUID
    version: int
    type: str
    recorded_at: float
    workspace_id: int
    body: bytes
    whole: bool


class LogPage(msgspec.Struct, frozen=True):
    """Events with their places; all up to `upto` was looked at.

    Args:
        more: whether there may be more to read at once.
        held: whether there is more that an older transaction still holds back.
    """

    rows: list[tuple[Cursor, LogRow]]
    upto: Cursor
    more: bool
    held: bool


async def of_runs(database: Database, after: Mapping[UUID, int]) -> dict[UUID, list[LogRow]]:
    """The events of each run after the version named, `PAGE` at most, in order; a run without any is left out."""
    found: dict[UUID, list[LogRow]] = {}
    for row in await database.fetch(_OF_RUNS, list(after.keys()), list(after.values())):
        found.setdefault(row["stream_id"], []).append(_row(row))
    return found


async def of_workspaces(database: Database, workspaces: Sequence[int], after: Cursor) -> LogPage:
    """The events of these workspaces' runs after a place in the log, in the order of the log.

    Looks at `PAGE` events of the log, whosever they are, so that a reading takes bounded time.
    """
    *rows, last = await database.fetch(_OF_WORKSPACES, str(after.tx), after.position, list(workspaces))
    upto = max(after, Cursor(last["tx"], last["position"]))
    found = [(Cursor(row["tx"], row["position"]), _row(row)) for row in rows]
    return LogPage(found, upto, last["version"] == PAGE, last["whole"])


async def run_head(database: Database, id: UUID) -> tuple[int, int] | None:
    """(workspace, version) of a run; None if there is none."""
    rows = await database.fetch(_HEAD_OF_RUN, id)
    return (rows[0][0], rows[0][1]) if rows else None


async def horizon(database: Database) -> Cursor:
    """The place before all that is still being written, and perhaps some of what was written just now."""
    return Cursor(await database.fetchval(_HORIZON), -1)


def _row(row: asyncpg.Record) -> LogRow:
    body = row["body"] or b""
    if whole := row["whole"] is not False:
        body = unpack(row["codec"], body)
    elif row["codec"] != RAW:
        body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return LogRow(
        row["stream_id"],
        row["version"],
        row["type"],
        row["recorded_at"].timestamp(),
        row["workspace_id"],
        body,
        whole,
    )
