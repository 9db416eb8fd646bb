"""What waits in lanes, and the one way out of it.

A lane is a work item of kind LANE: whoever holds it (claim, lease and fence as for runs) alone decides what becomes of
its requests. What is promised:

- A request is put in the commit that ends its delivery's work (`events.routes`), and taken in the commit that starts
  its run or says why there is none.
- No lost wake-up: whatever could let a request go on (another request, the end of a run of the lane) raises the lane's
  `signal` under the lock of its work item, and makes it due unless somebody holds it. The signal is read (with the
  claim) before everything else; a lane that is let go with a newer one is due at once.
- Which runs are active is not counted but looked up: those of the lane that have a work item. So a reopened run is
  active again, and one that a crash left behind is as long as it can go on.
- A lane is made before its first request is put, by a statement of its own that locks nothing else: so there is one
  order of locks for all (ids of work items) and no deadlock. One in which nothing waits is deleted by its holder.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from events.database import Database
from events.effects import NewRun, StartRequest
from events.errors import BadRow
from events.inbox import PUT, WAKE
from events.types import Kind

UNUSED = 60.0
"""Seconds until a lane is looked at into which nothing was put: whoever made it died."""
TRIES = 5
"""How often a step is written again: another lane or a replay may note something on the same delivery just now."""

_ENSURE = f"""
INSERT INTO work_item (id, stream_id, kind, queue, due_at, workspace_id)
SELECT id, id, {Kind.LANE:d}, queue, now() + make_interval(secs => $4), workspace_id
FROM unnest($1::uuid[], $2::text[], $3::int[]) AS t(id, queue, workspace_id) ORDER BY id
ON CONFLICT DO NOTHING
"""
_WAITING = """
SELECT seq, workspace_id, workflow, key, workflow_hash, queue, delivery_id, item, replay_of, size, traceparent,
  extract(epoch FROM at)::float8 AS at
FROM start_request WHERE lane_id = $1 ORDER BY item LIMIT $2
"""
_ACTIVE = """
SELECT extract(epoch FROM clock_timestamp())::float8 AS now,
  ARRAY(SELECT id FROM work_item WHERE lane = $1 ORDER BY id) AS active,
  ARRAY(SELECT extract(epoch FROM started_at)::float8 FROM run WHERE lane = $1
    ORDER BY started_at DESC LIMIT $2) AS recent
"""
_WRITE = f"""
WITH wanted AS MATERIALIZED (SELECT $1::uuid AS id UNION SELECT unnest($17::uuid[])),
locked AS MATERIALIZED (
  SELECT w.id, w.queue, w.owner, w.signal FROM work_item w JOIN wanted i ON w.id = i.id
    AND CASE WHEN w.id = $1 THEN w.token = $2 ELSE w.kind = {Kind.RUN:d} END
  ORDER BY w.id FOR UPDATE OF w),
held AS MATERIALIZED (SELECT id, signal <= $3::bigint AND $5::bool AS over, signal FROM locked WHERE id = $1),
new AS MATERIALIZED (
  SELECT * FROM unnest($6::uuid[], $7::text[], $8::bytea[], $9::text[], $10::bytea[], $11::uuid[], $12::uuid[])
    AS t(id, workflow, hash, queue, started, delivery_id, replay_of)
  WHERE EXISTS (SELECT FROM held)),
head AS (
  INSERT INTO run (id, workspace_id, workflow, workflow_hash, status, version, delivery_id, replay_of, lane)
  SELECT id, $13::int, workflow, hash, 'running', 0, delivery_id, replay_of, $1 FROM new),
started AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT id, 0, $13::int, 'run.started', started FROM new),
work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, due_at, lane, workspace_id)
  SELECT id, id, {Kind.RUN:d}, queue, now(), $1, $13::int FROM new),
taken AS (
  DELETE FROM start_request WHERE lane_id = $1 AND item = ANY ($14::uuid[]) AND EXISTS (SELECT FROM held)),
noted AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT delivery_id, (row_number() OVER (PARTITION BY delivery_id ORDER BY ord)
    + (SELECT version FROM event e WHERE e.stream_id = delivery_id ORDER BY version DESC LIMIT 1))::int,
    $13::int, 'delivery.settled', body
  FROM unnest($15::uuid[], $16::bytea[]) WITH ORDINALITY AS t(delivery_id, body, ord)
  WHERE EXISTS (SELECT FROM held)),
told AS MATERIALIZED (
  SELECT id, $18::text AS type, nextval('inbox_seq') AS seq, $19::bytea AS body FROM locked
  WHERE id <> $1 AND EXISTS (SELECT FROM held)),
{PUT},
woken AS ({WAKE}),
ended AS (DELETE FROM work_item w USING held h WHERE w.id = h.id AND h.over),
released AS (
  UPDATE work_item w SET due_at = CASE WHEN h.signal > $3::bigint THEN now() ELSE to_timestamp($4::float8) END,
    owner = NULL, token = w.token + 1, attempt = 0
  FROM held h WHERE w.id = h.id AND NOT h.over)
SELECT id, queue, owner IS NOT NULL AS leased, signal FROM locked
"""


class Waiting(msgspec.Struct, frozen=True):
    """A request that waits: what the lane was signalled with, and when (Unix seconds)."""

    seq: int
    at: float
    request: StartRequest


class Active(msgspec.Struct, frozen=True):
    """What a lane's runs do: those that have not ended, when the latest started (newest first), the database's time."""

    now: float
    runs: tuple[UUID, ...]
    recent: tuple[float, ...]


class Outcome(msgspec.Struct, frozen=True):
    """What becomes of a lane now.

    Args:
        workspace_id: of all that is written.
        runs: to be started, due at once for anybody.
        taken: the items of the requests that this settles.
        settled: (delivery, JSON) for each: what its history says.
        cancel: runs that get a row of the type and body of `cancel_with`.
        due: when to look again (Unix seconds; infinity: when told).
        over: nothing waits any more.
    """

    workspace_id: int
    runs: tuple[NewRun, ...]
    taken: tuple[UUID, ...]
    settled: tuple[tuple[UUID, bytes], ...]
    cancel: tuple[UUID, ...]
    cancel_with: tuple[str, bytes]
    due: float
    over: bool


async def ensure(database: Database, requests: Sequence[StartRequest]) -> None:
    """Makes the lanes of these that are not there, and commits."""
    once = {one.lane_id: one for one in requests}
    if once:
        queues, workspaces = [one.queue for one in once.values()], [one.workspace_id for one in once.values()]
        await database.fetch(_ENSURE, list(once), queues, workspaces, UNUSED)


async def waiting(database: Database, lane_id: UUID, most: int) -> list[Waiting]:
    """The first `most` requests of a lane, in the order in which their deliveries (or replays) came."""
    found = []
    for row in await database.fetch(_WAITING, lane_id, most):
        request = StartRequest(
            lane_id=lane_id,
            workspace_id=row["workspace_id"],
            workflow=row["workflow"],
            key=row["key"],
            workflow_hash=row["workflow_hash"],
            queue=row["queue"],
            delivery_id=row["delivery_id"],
            item=row["item"],
            replay_of=row["replay_of"],
            size=row["size"],
            traceparent=row["traceparent"],
        )
        found.append(Waiting(row["seq"], row["at"], request))
    return found


async def active(database: Database, lane_id: UUID, recent: int) -> Active:
    """What a lane's runs do, with the times of the latest `recent` starts."""
    (row,) = await database.fetch(_ACTIVE, lane_id, recent)
    return Active(row["now"], tuple(row["active"]), tuple(row["recent"]))


async def write(database: Database, lane_id: UUID, token: int, signal: int, outcome: Outcome) -> frozenset[str] | None:
    """Writes an outcome and lets the lane go; the queues with something new to do.

    Args:
        signal: the newest that was read.

    Returns:
        None where the token is not current any more: nothing was written.

    Raises:
        BadRow: it was refused `TRIES` times.
    """
    for left in range(TRIES - 1, -1, -1):
        try:
            rows = await database.fetch(_WRITE, *_arguments(lane_id, token, signal, outcome))
        except BadRow:
            if not left:
                raise
        else:
            break
    mine = next((row for row in rows if row["id"] == lane_id), None)
    if mine is None:
        return None
    queues = {run.queue for run in outcome.runs}
    queues |= {row["queue"] for row in rows if row["id"] != lane_id and not row["leased"]}
    if mine["signal"] > signal:
        queues.add(mine["queue"])
    return frozenset(queues)


def _arguments(lane_id: UUID, token: int, signal: int, outcome: Outcome) -> tuple[object, ...]:
    runs = outcome.runs
    return (
        lane_id,
        token,
        signal,
        outcome.due,
        outcome.over,
        [run.id for run in runs],
        [run.workflow for run in runs],
        [run.workflow_hash for run in runs],
        [run.queue for run in runs],
        [run.started for run in runs],
        [run.delivery_id for run in runs],
        [run.replay_of for run in runs],
        outcome.workspace_id,
        list(outcome.taken),
        [id for id, _ in outcome.settled],
        [body for _, body in outcome.settled],
        list(outcome.cancel),
        *outcome.cancel_with,
    )
