"""Fenced appends: what a worker writes about the runs and deliveries it holds.

Every statement here joins its rows with the work items on (id, token) under a row lock and goes on only with what
matches, so that a stale token inserts nothing, all or none per stream, and the run's head and its work item change in
the same commit. Rows are locked in id order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal
from uuid import UUID

import msgspec

from events.codec import pack
from events.database import Database
from events.effects import Arrival, Effect, Emit, NewRun, StartRun, Subscribe, Tell, Unsubscribe
from events.journal import Journal
from events.types import Kind

__all__ = [
    "Arrival",
    "Effect",
    "Emit",
    "Finish",
    "Keep",
    "NewEvent",
    "NewRun",
    "Routing",
    "RunAppend",
    "RunWriter",
    "StartRun",
    "Status",
    "Subscribe",
    "Tell",
    "Then",
    "Unsubscribe",
    "Yield",
]

Status = Literal["running", "waiting", "paused", "completed", "failed", "cancelled", "parked"]


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
        inbox: the last row of the inbox that these events and those before them answer.
        effects: what belongs into the same commit.
    """

    id: UUID
    token: int
    version: int
    status: Status
    events: tuple[NewEvent, ...]
    then: Then
    error: str | None = None
    inbox: int = 0
    effects: tuple[Effect, ...] = ()


class Routing(msgspec.Struct, frozen=True):
    """What came of a delivery's (or a replay's) work item: one event on the delivery's stream, and its runs.

    Args:
        arrivals: what runs may wait for in it. They are in the log already (`events.waits.note`); the runs that are
            subscribed to one of them get a row `event.arrived` into their inbox, in the same commit.
    """

    id: UUID
    token: int
    delivery_id: UUID
    workspace_id: int
    type: Literal["delivery.routed", "delivery.parked"]
    body: bytes
    runs: tuple[NewRun, ...] = ()
    arrivals: tuple[Arrival, ...] = ()


# Each row says which of the events (or runs) that come along are its own: `first` to `last`, counted from 1. A join of
# the two lists would cost the product of their lengths, and would mix up two rows of one run with different tokens.
_APPEND = """
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::int[], $4::text[], $5::bool[], $6::float8[], $7::text[],
    $8::int[], $9::int[]) AS t(id, token, version, status, final, due_at, error, first, last)),
held AS MATERIALIZED (
  SELECT i.* FROM work_item w JOIN input i ON w.id = i.id AND w.token = i.token ORDER BY w.id FOR UPDATE OF w),
head AS (
  UPDATE run r SET version = h.version, status = h.status, error = h.error, updated_at = now(),
    ended_at = CASE WHEN h.final THEN now() END
  FROM held h WHERE r.id = h.id
  RETURNING r.id, r.workspace_id, h.first, h.last),
appended AS (
  INSERT INTO event (stream_id, version, workspace_id, type, codec, body)
  SELECT id, ($10::int[])[n], workspace_id, ($11::text[])[n], ($12::smallint[])[n], ($13::bytea[])[n]
  FROM head, generate_series(first, last) AS n),
ended AS (
  DELETE FROM work_item w USING held h WHERE w.id = h.id AND h.final),
released AS (
  UPDATE work_item w SET due_at = to_timestamp(h.due_at), owner = NULL, token = w.token + 1, attempt = 0
  FROM held h WHERE w.id = h.id AND h.due_at IS NOT NULL)
SELECT id, token FROM held
"""

_ROUTE = f"""
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::int[], $5::text[], $6::bytea[], $7::int[], $8::int[])
    AS t(id, token, delivery_id, workspace_id, type, body, first, last)),
held AS MATERIALIZED (
  SELECT i.* FROM work_item w JOIN input i ON w.id = i.id AND w.token = i.token ORDER BY w.id FOR UPDATE OF w),
noted AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT delivery_id, 1 + (SELECT version FROM event e WHERE e.stream_id = delivery_id ORDER BY version DESC LIMIT 1),
    workspace_id, type, body
  FROM held),
done AS (DELETE FROM work_item w USING held h WHERE w.id = h.id),
new AS MATERIALIZED (
  SELECT workspace_id, delivery_id, ($9::uuid[])[n] AS id, ($10::text[])[n] AS workflow, ($11::bytea[])[n] AS hash,
    ($12::text[])[n] AS queue, ($13::bytea[])[n] AS started, ($14::bool[])[n] AS leased, ($15::uuid[])[n] AS replay_of
  FROM held, generate_series(first, last) AS n),
head AS (
  INSERT INTO run (id, workspace_id, workflow, workflow_hash, status, version, delivery_id, replay_of)
  SELECT id, workspace_id, workflow, hash, 'running', 0, delivery_id, replay_of FROM new),
started AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT id, 0, workspace_id, 'run.started', started FROM new),
work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, due_at, attempt, token, owner, seen_version)
  SELECT id, id, {Kind.RUN:d}, queue, CASE WHEN leased THEN now() + make_interval(secs => $16) ELSE now() END,
    leased::int, leased::int, CASE WHEN leased THEN $17 END, CASE WHEN leased THEN 0 END FROM new)
SELECT id, token FROM held
"""


class RunWriter:
    """Writes what a worker's runs and routings come to.

    Attributes:
        ring: called after a commit with each queue that has something new to do for whoever looks: a child, an
            emitted delivery, a run that was told something, a run that let go with a signal unread.
        told: called after a commit for each run with a holder that was told something, with its newest signal. The
            holder may be this process: then it need not look.
    """

    def __init__(self, database: Database, *, owner: str, lease: float) -> None:
        self.ring: Callable[[str], None] | None = None
        self.told: Callable[[UUID, int], None] | None = None
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
        events = [event for row in batch for event in row.events]
        packed = [pack(event.body) for event in events]
        rows = await self._database.fetch(
            _APPEND,
            [row.id for row in batch],
            [row.token for row in batch],
            [row.version for row in batch],
            [row.status for row in batch],
            [isinstance(row.then, Finish) for row in batch],
            [row.then.due_at if isinstance(row.then, Yield) else None for row in batch],
            [row.error for row in batch],
            *_ranges([len(row.events) for row in batch]),
            [event.version for event in events],
            [event.type for event in events],
            [codec for codec, _ in packed],
            [body for _, body in packed],
        )
        held = {(row[0], row[1]) for row in rows}
        return [(row.id, row.token) in held for row in batch]

    async def route(self, batch: Sequence[Routing]) -> list[bool]:
        """Notes routings and creates their runs; one answer per row, as `append`."""
        runs = [run for row in batch for run in row.runs]
        rows = await self._database.fetch(
            _ROUTE,
            [row.id for row in batch],
            [row.token for row in batch],
            [row.delivery_id for row in batch],
            [row.workspace_id for row in batch],
            [row.type for row in batch],
            [row.body for row in batch],
            *_ranges([len(row.runs) for row in batch]),
            [run.id for run in runs],
            [run.workflow for run in runs],
            [run.workflow_hash for run in runs],
            [run.queue for run in runs],
            [run.started for run in runs],
            [run.leased for run in runs],
            [run.replay_of for run in runs],
            self._lease,
            self._owner,
        )
        held = {(row[0], row[1]) for row in rows}
        return [(row.id, row.token) in held for row in batch]


def _ranges(lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """First and last place, counted from 1, of each of several lists laid end to end."""
    lasts = list(itertools.accumulate(lengths))
    return [last - length + 1 for last, length in zip(lasts, lengths, strict=True)], lasts


def _size(row: RunAppend) -> int:
    return 256 + sum(len(event.body) for event in row.events)
