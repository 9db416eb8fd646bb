"""Starting a run because somebody asks for it by API: one statement, and one run for each idempotency key.

The request is a delivery of the source `api`, as a webhook is one of its source: it is in the log, byte for byte, with
what came of it. The run begins in the same commit, so that whoever was answered finds it. An idempotency key is a dedup
key of the workspace, below the sources' (`-workspace_id`), and lives as long.
"""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import msgspec

from events.codec import pack
from events.database import Database
from events.errors import HeadraceError
from events.ids import dedup_key, derived_id, uuid7
from events.types import REPLAY_QUEUE, Kind

_START = f"""
WITH claimed AS (
  INSERT INTO delivery_key (source_id, key, stream_id) SELECT -$1::int, $2::bytea, $3::uuid WHERE $2 IS NOT NULL
  ON CONFLICT DO NOTHING RETURNING stream_id),
fresh AS MATERIALIZED (SELECT WHERE $2 IS NULL OR EXISTS (SELECT FROM claimed)),
said AS (
  INSERT INTO event (stream_id, version, workspace_id, type, metadata, headers, codec, body)
  SELECT t.id, t.version, $1, t.type, t.metadata, t.headers, t.codec, t.body
  FROM fresh, (VALUES
    ($3, 0, 'delivery.received', $4::jsonb, ''::bytea, $5::smallint, $6::bytea),
    ($3, 1, 'delivery.routed', NULL, NULL, 0::smallint, $7::bytea),
    ($8::uuid, 0, 'run.started', NULL, NULL, 0::smallint, $9::bytea))
    AS t(id, version, type, metadata, headers, codec, body)),
head AS (
  INSERT INTO run (id, workspace_id, workflow, workflow_hash, status, version, delivery_id)
  SELECT $8, $1, $10, $11::bytea, 'running', 0, $3 FROM fresh),
work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, due_at, workspace_id)
  SELECT $8, $8, {Kind.RUN:d}, '{REPLAY_QUEUE}', now(), $1 FROM fresh)
SELECT count(*) FROM fresh
"""
_FIRST = """
SELECT k.stream_id, e.metadata FROM delivery_key k JOIN event e ON e.stream_id = k.stream_id AND e.version = 0
WHERE k.source_id = -$1::int AND k.key = $2
"""


class Asked(msgspec.Struct, frozen=True):
    """A run that is asked for. `started`: makes the JSON of `run.started` for the delivery's id and the time.

    `key`: the idempotency key, as it came. `actor`: for the history.
    """

    workspace_id: int
    workflow: str
    workflow_hash: bytes
    input: Any
    actor: str
    key: str | None = None
    traceparent: str | None = None


class Started(msgspec.Struct, frozen=True):
    """The run was begun now."""

    run_id: UUID
    delivery_id: UUID


class Before(msgspec.Struct, frozen=True):
    """The same was asked for before, under the same key."""

    run_id: UUID
    delivery_id: UUID


class Conflict(msgspec.Struct, frozen=True):
    """Something else was asked for before, under the same key."""


async def begin(database: Database, asked: Asked, started: Any) -> Started | Before | Conflict:
    """Begins a run, unless its key was used before.

    Args:
        started: (delivery id, Unix seconds) -> JSON of `run.started`.
    """
    now = database.clock.now()
    delivery_id = uuid7(now)
    run_id = derived_id(delivery_id, asked.workflow)
    key = None if asked.key is None else dedup_key(b"api", asked.key.encode())
    body = msgspec.json.encode(asked.input)
    request = hashlib.sha256(asked.workflow.encode() + b"\0" + msgspec.json.encode(asked.input, order="deterministic"))
    metadata = {
        "source": "api",
        "event_type": asked.workflow,
        "content_type": "application/json",
        "actor": asked.actor,
        "request": request.hexdigest(),
    }
    if asked.traceparent is not None:
        metadata["traceparent"] = asked.traceparent
    routed = {"item": delivery_id, "runs": [{"id": run_id, "workflow": asked.workflow}], "passed_over": []}
    fresh = await database.fetchval(
        _START,
        asked.workspace_id,
        key,
        delivery_id,
        msgspec.json.encode(metadata).decode(),
        *pack(body),
        msgspec.json.encode(routed),
        run_id,
        started(delivery_id, now),
        asked.workflow,
        asked.workflow_hash,
    )
    if fresh:
        return Started(run_id, delivery_id)
    rows = await database.fetch(_FIRST, asked.workspace_id, key)
    if not rows:
        raise HeadraceError(f"the run of idempotency key {asked.key!r} is not in the log any more")
    first = msgspec.json.decode(rows[0]["metadata"])
    if first.get("request") != request.hexdigest():
        return Conflict()
    delivery_id = rows[0]["stream_id"]
    return Before(derived_id(delivery_id, first["event_type"]), delivery_id)
