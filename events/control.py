"""What people do to whole runs: have ended ones go on, and start new ones from events that they bring along.

Nothing here writes to the stream of a run that exists: a reopened run gets a work item and a row in its inbox, and its
next holder notes what that comes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from events.appends import ranges
from events.codec import pack
from events.database import Database
from events.effects import NewRun
from events.run_types import NewEvent, Status
from events.types import DELIVERY_QUEUE, Kind

# The lock on the head has the latest status looked at: a run may be reopened and complete meanwhile. A work item that
# is there belongs to a run that goes on, or to another reopening.
_REOPEN = f"""
WITH input AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::text[]) AS t(id, body, queue)),
ended AS MATERIALIZED (
  SELECT r.id, r.version, i.body, i.queue, r.workflow_hash, r.workspace_id, r.lane
  FROM run r JOIN input i ON r.id = i.id
  WHERE r.status IN ('failed', 'cancelled', 'parked') AND NOT EXISTS (SELECT FROM work_item w WHERE w.id = r.id)
  ORDER BY r.id FOR UPDATE OF r),
opened AS (
  INSERT INTO work_item (id, stream_id, kind, queue, due_at, seen_version, signal, lane, workspace_id)
  SELECT id, id, {Kind.RUN:d},
    coalesce(queue, (SELECT v.document->>'queue' FROM workflow_version v WHERE v.hash = workflow_hash LIMIT 1), $4),
    now(), version, nextval('inbox_seq'), lane, workspace_id
  FROM ended
  ON CONFLICT DO NOTHING RETURNING id, queue, signal),
told AS (
  INSERT INTO inbox (stream_id, seq, type, body)
  SELECT o.id, o.signal, 'retry', i.body FROM opened o JOIN input i ON i.id = o.id)
SELECT id, queue FROM opened
"""

_START = f"""
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::bytea[], $5::text[], $6::bytea[], $7::text[], $8::int[],
    $9::uuid[], $10::uuid[], $11::uuid[], $12::uuid[], $13::int[], $14::int[])
    AS t(id, workspace_id, workflow, hash, queue, started, status, version, delivery_id, replay_of, parent, fork_of,
      first, last)),
head AS (
  INSERT INTO run (id, workspace_id, workflow, workflow_hash, status, version, delivery_id, replay_of, parent, fork_of)
  SELECT id, workspace_id, workflow, hash, status, version, delivery_id, replay_of, parent, fork_of
  FROM input ORDER BY id
  ON CONFLICT DO NOTHING RETURNING id),
new AS MATERIALIZED (SELECT * FROM input WHERE (id IN (SELECT id FROM head)) IS TRUE),
started AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT id, 0, workspace_id, 'run.started', started FROM new),
appended AS (
  INSERT INTO event (stream_id, version, workspace_id, type, codec, body)
  SELECT id, ($15::int[])[n], workspace_id, ($16::text[])[n], ($17::smallint[])[n], ($18::bytea[])[n]
  FROM new, generate_series(first, last) AS n),
work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, due_at, workspace_id)
  SELECT id, id, {Kind.RUN:d}, queue, now(), workspace_id FROM new)
SELECT id FROM new
"""


class Reopen(msgspec.Struct, frozen=True):
    """An ended run that is to go on. `body` is the JSON of the row `retry` that it finds in its inbox.

    `queue`: where it goes on; None is the queue that its workflow's version names.
    """

    id: UUID
    body: bytes
    queue: str | None = None


class Start(msgspec.Struct, frozen=True):
    """A run to be created with a history: `run.started` of the run itself is version 0, `events` follow from 1 on.

    Its work item is due at once for anybody (`run.leased` is not looked at).
    """

    run: NewRun
    events: tuple[NewEvent, ...] = ()
    status: Status = "running"
    workspace_id: int = 1


async def reopen(database: Database, runs: Sequence[Reopen]) -> dict[UUID, str]:
    """Has ended runs go on; the queue to ring for each that will.

    Missing from the answer: what has not ended, has completed, is being reopened already, or is not known.
    """
    once = {one.id: one for one in runs}.values()
    rows = await database.fetch(
        _REOPEN, [one.id for one in once], [one.body for one in once], [one.queue for one in once], DELIVERY_QUEUE
    )
    return {row["id"]: row["queue"] for row in rows}


async def start(database: Database, runs: Sequence[Start]) -> list[bool]:
    """Creates runs, all in one commit; one answer per run: False where its id is taken already (nothing is written).

    Raises:
        BadRow: two of them have one id, or the versions of some run's events are not all different and above 0.
    """
    events = [event for one in runs for event in one.events]
    packed = [pack(event.body) for event in events]
    rows = await database.fetch(
        _START,
        [one.run.id for one in runs],
        [one.workspace_id for one in runs],
        [one.run.workflow for one in runs],
        [one.run.workflow_hash for one in runs],
        [one.run.queue for one in runs],
        [one.run.started for one in runs],
        [one.status for one in runs],
        [one.events[-1].version if one.events else 0 for one in runs],
        [one.run.delivery_id for one in runs],
        [one.run.replay_of for one in runs],
        [one.run.parent for one in runs],
        [one.run.fork_of for one in runs],
        *ranges([len(one.events) for one in runs]),
        [event.version for event in events],
        [event.type for event in events],
        [codec for codec, _ in packed],
        [body for _, body in packed],
    )
    made = {row[0] for row in rows}
    return [one.run.id in made for one in runs]
