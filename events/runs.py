"""Fenced appends: what a worker writes about the runs and deliveries it holds.

Every statement here joins its rows with the work items on (id, token) under a row lock and goes on only with what
matches, so that a stale token inserts nothing, all or none per stream, and the run's head and its work item change in
the same commit. Rows are locked in id order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

import msgspec

from events.codec import pack
from events.database import Database
from events.journal import Journal

Status = Literal["running", "waiting", "completed", "failed", "parked"]


class NewEvent(msgspec.Struct, frozen=True):
    """A fact about to be appended; `body` is JSON."""

    version: int
    type: str
    body: bytes


class Keep(msgspec.Struct, frozen=True):
    """The holder goes on with the run."""


class Finish(msgspec.Struct, frozen=True):
    """The run has ended: its work item goes."""


class Yield(msgspec.Struct, frozen=True):
    """The holder lets the run go until `due_at` (Unix seconds, the database's clock)."""

    due_at: float


Then = Keep | Finish | Yield


class RunAppend(msgspec.Struct, frozen=True):
    """Events of one run that belong into one commit, and what becomes of the run then.

    Args:
        version: the version of the run after these events.
        status: the run's status from now on.
        error: why it failed or was parked, for lists.
    """

    id: UUID
    token: int
    version: int
    status: Status
    events: tuple[NewEvent, ...]
    then: Then
    error: str | None = None


class NewRun(msgspec.Struct, frozen=True):
    """A run to be created by a routing. `leased`: it starts in this process at once, with token 1."""

    id: UUID
    workspace_id: int
    workflow: str
    workflow_hash: bytes
    queue: str
    started: bytes
    leased: bool
    delivery_id: UUID
    replay_of: UUID | None = None


class Routing(msgspec.Struct, frozen=True):
    """What came of a delivery's (or a replay's) work item: one event on the delivery's stream, and its runs."""

    id: UUID
    token: int
    delivery_id: UUID
    workspace_id: int
    type: Literal["delivery.routed", "delivery.parked"]
    body: bytes
    runs: tuple[NewRun, ...] = ()


_APPEND = """
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::int[], $4::text[], $5::bool[], $6::float8[], $7::text[])
    AS t(id, token, version, status, final, due_at, error)),
held AS MATERIALIZED (
  SELECT w.id FROM work_item w JOIN input i ON w.id = i.id AND w.token = i.token ORDER BY w.id FOR UPDATE OF w),
head AS (
  UPDATE run r SET version = i.version, status = i.status, error = i.error, updated_at = now(),
    ended_at = CASE WHEN i.final THEN now() END
  FROM input i JOIN held h ON h.id = i.id WHERE r.id = i.id
  RETURNING r.id, r.workspace_id),
appended AS (
  INSERT INTO event (stream_id, version, workspace_id, type, codec, body)
  SELECT e.id, e.version, head.workspace_id, e.type, e.codec, e.body
  FROM unnest($8::uuid[], $9::int[], $10::text[], $11::smallint[], $12::bytea[]) AS e(id, version, type, codec, body)
  JOIN head ON head.id = e.id),
ended AS (
  DELETE FROM work_item w USING input i JOIN held h ON h.id = i.id WHERE w.id = i.id AND i.final),
released AS (
  UPDATE work_item w SET due_at = to_timestamp(i.due_at), owner = NULL, token = w.token + 1, attempt = 0
  FROM input i JOIN held h ON h.id = i.id WHERE w.id = i.id AND i.due_at IS NOT NULL)
SELECT id FROM held
"""

_ROUTE = """
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::int[], $5::text[], $6::bytea[])
    AS t(id, token, delivery_id, workspace_id, type, body)),
held AS MATERIALIZED (
  SELECT w.id FROM work_item w JOIN input i ON w.id = i.id AND w.token = i.token ORDER BY w.id FOR UPDATE OF w),
noted AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT i.delivery_id,
    1 + (SELECT version FROM event e WHERE e.stream_id = i.delivery_id ORDER BY version DESC LIMIT 1),
    i.workspace_id, i.type, i.body
  FROM input i JOIN held h ON h.id = i.id),
done AS (DELETE FROM work_item w USING held h WHERE w.id = h.id),
new AS MATERIALIZED (
  SELECT r.* FROM unnest($7::uuid[], $8::uuid[], $9::int[], $10::text[], $11::bytea[], $12::text[], $13::bytea[],
    $14::bool[], $15::uuid[], $16::uuid[])
    AS r(item, id, workspace_id, workflow, hash, queue, started, leased, delivery_id, replay_of)
  JOIN held h ON h.id = r.item),
head AS (
  INSERT INTO run (id, workspace_id, workflow, workflow_hash, status, version, delivery_id, replay_of)
  SELECT id, workspace_id, workflow, hash, 'running', 0, delivery_id, replay_of FROM new),
started AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT id, 0, workspace_id, 'run.started', started FROM new),
work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, due_at, attempt, token, owner, seen_version)
  SELECT id, id, 2, queue, CASE WHEN leased THEN now() + make_interval(secs => $17) ELSE now() END,
    leased::int, leased::int, CASE WHEN leased THEN $18 END, CASE WHEN leased THEN 0 END FROM new)
SELECT id FROM held
"""


class RunWriter:
    """Writes what a worker's runs and routings come to."""

    def __init__(self, database: Database, *, owner: str, lease: float) -> None:
        self._database = database
        self._owner = owner
        self._lease = lease

    def journal(self, *, max_waiting: int = 100_000) -> Journal[RunAppend, bool]:
        """The journal of a worker process: many runs' appends in one commit."""
        return Journal(self.append, _size, max_waiting=max_waiting)

    async def append(self, batch: Sequence[RunAppend]) -> list[bool]:
        """Appends; one answer per row: whether its token was current. False means that nothing of it was written.

        Raises:
            BadRow: some row's data was refused (a version that exists, say); nothing of the batch was written.
            Unavailable: nothing is known to be written.
        """
        events = [(row.id, event) for row in batch for event in row.events]
        packed = [pack(event.body) for _, event in events]
        rows = await self._database.fetch(
            _APPEND,
            [row.id for row in batch],
            [row.token for row in batch],
            [row.version for row in batch],
            [row.status for row in batch],
            [isinstance(row.then, Finish) for row in batch],
            [row.then.due_at if isinstance(row.then, Yield) else None for row in batch],
            [row.error for row in batch],
            [id for id, _ in events],
            [event.version for _, event in events],
            [event.type for _, event in events],
            [codec for codec, _ in packed],
            [body for _, body in packed],
        )
        held = {row[0] for row in rows}
        return [row.id in held for row in batch]

    async def route(self, batch: Sequence[Routing]) -> list[bool]:
        """Notes routings and creates their runs; one answer per row, as `append`."""
        runs = [(row.id, run) for row in batch for run in row.runs]
        rows = await self._database.fetch(
            _ROUTE,
            [row.id for row in batch],
            [row.token for row in batch],
            [row.delivery_id for row in batch],
            [row.workspace_id for row in batch],
            [row.type for row in batch],
            [row.body for row in batch],
            [item for item, _ in runs],
            [run.id for _, run in runs],
            [run.workspace_id for _, run in runs],
            [run.workflow for _, run in runs],
            [run.workflow_hash for _, run in runs],
            [run.queue for _, run in runs],
            [run.started for _, run in runs],
            [run.leased for _, run in runs],
            [run.delivery_id for _, run in runs],
            [run.replay_of for _, run in runs],
            self._lease,
            self._owner,
        )
        held = {row[0] for row in rows}
        return [row.id in held for row in batch]


def _size(row: RunAppend) -> int:
    return 256 + sum(len(event.body) for event in row.events)
