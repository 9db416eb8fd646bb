"""The statements that append to runs: the plain one, and the one for appends that have to do with other runs.

The plain one serves batches in which nobody brings effects along or has ever read a signal, which is most of them.

Both lock the work items they touch in id order before anything else; the elaborate one those of its own runs and of
those that are told something together, so that processes whose runs tell each other do not deadlock. No work item is
updated twice in a statement: a run may be told something and be let go in the same batch, and then is due at once; what
is told to a run that ends in the same batch goes nowhere, as if it had come a moment later.

Joins are nested loops here (`events.database`): one side of each is found by its key. What is locked is looked up row
by row (LATERAL), in id order, and what is changed by an array of ids: PostgreSQL may believe that the work list is all
but empty, because it was when it was last analysed, and a plain join then walks all of it for each row of a batch.
`(… IN …) IS TRUE` is looked up in a hash table; without IS TRUE it becomes a join, which costs the product of the two
lengths.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from events.codec import pack
from events.effects import Emit, StartRun, Subscribe, Tell, Unsubscribe, Wake
from events.inbox import PUT
from events.run_types import Finish, RunAppend, Yield
from events.types import DELIVERY_QUEUE, Kind

_Effect = TypeVar("_Effect")

# Each row says which of the events that come along are its own: `first` to `last`, counted from 1. A join of the two
# lists would cost the product of their lengths, and would mix up two rows of one run with different tokens.
_ROWS = """
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::int[], $4::text[], $5::bool[], $6::float8[], $7::text[],
    $8::int[], $9::int[], $10::bigint[]) WITH ORDINALITY
    AS t(id, token, version, status, final, due_at, error, first, last, inbox, ord)"""
_WRITTEN = """
head AS (
  UPDATE run r SET version = h.version, status = h.status, error = h.error, updated_at = now(),
    ended_at = CASE WHEN h.final THEN now() END
  FROM held h WHERE r.id = h.id
  RETURNING r.id, r.workspace_id, h.first, h.last),
appended AS (
  INSERT INTO event (stream_id, version, workspace_id, type, codec, body)
  SELECT id, ($11::int[])[n], workspace_id, ($12::text[])[n], ($13::smallint[])[n], ($14::bytea[])[n]
  FROM head, generate_series(first, last) AS n),
ended AS (
  DELETE FROM work_item WHERE id = ANY (ARRAY(SELECT id FROM held WHERE final))),
unsubscribed AS (
  DELETE FROM subscription WHERE run_id = ANY (ARRAY(SELECT id FROM held WHERE final)))"""

APPEND = f"""
WITH input AS MATERIALIZED ({_ROWS}),
held AS MATERIALIZED (
  SELECT i.*, w.signal, w.queue FROM (SELECT * FROM input ORDER BY id) i CROSS JOIN LATERAL (
    SELECT signal, queue FROM work_item w WHERE w.id = i.id AND w.token = i.token FOR UPDATE) w),
{_WRITTEN},
cleared AS (
  DELETE FROM inbox WHERE stream_id = ANY (ARRAY(SELECT id FROM held WHERE final AND signal > 0))),
released AS (
  UPDATE work_item w SET due_at = CASE WHEN h.signal > 0 THEN now() ELSE to_timestamp(h.due_at) END,
    owner = NULL, token = w.token + 1, attempt = 0
  FROM held h WHERE w.id = h.id AND w.id = ANY (ARRAY(SELECT id FROM held WHERE due_at IS NOT NULL)))
SELECT ord, id, queue, false AS leased, signal, NULL::bigint AS told FROM held
"""

APPEND_ELABORATE = f"""
WITH input AS MATERIALIZED ({_ROWS}),
wake AS MATERIALIZED (SELECT * FROM unnest($48::bigint[], $49::uuid[]) AS t(row, id)),
tell AS MATERIALIZED (
  SELECT * FROM unnest($15::bigint[], $16::uuid[], $17::text[], $18::bytea[]) AS t(row, id, type, body)),
wanted AS MATERIALIZED (
  SELECT ord, id, token FROM input
  UNION ALL SELECT NULL, id, NULL FROM (SELECT id FROM tell UNION SELECT id FROM wake) AS t),
locked AS MATERIALIZED (
  SELECT i.ord, w.id, w.queue, w.owner, w.signal FROM (SELECT * FROM wanted ORDER BY id) i CROSS JOIN LATERAL (
    SELECT id, queue, owner, signal FROM work_item w WHERE w.id = i.id
      AND CASE WHEN i.ord IS NULL THEN w.kind IN ({Kind.RUN:d}, {Kind.LANE:d}) ELSE w.token = i.token END
    FOR UPDATE) w),
held AS MATERIALIZED (SELECT * FROM input WHERE (ord IN (SELECT ord FROM locked)) IS TRUE),
{_WRITTEN},
new AS MATERIALIZED (
  SELECT * FROM unnest($19::bigint[], $20::uuid[], $21::uuid[], $22::text[], $23::bytea[], $24::text[], $25::bytea[],
    $26::bool[], $27::uuid[], $28::uuid[], $29::uuid[])
    AS t(row, parent, id, workflow, hash, queue, started, leased, delivery_id, replay_of, fork_of)
  WHERE (row IN (SELECT ord FROM held)) IS TRUE),
child AS (
  INSERT INTO run (id, workspace_id, workflow, workflow_hash, status, version, delivery_id, replay_of, parent, fork_of)
  SELECT id, (SELECT p.workspace_id FROM run p WHERE p.id = new.parent), workflow, hash, 'running', 0, delivery_id,
    replay_of, parent, fork_of FROM new ORDER BY id
  ON CONFLICT DO NOTHING RETURNING id, workspace_id),
child_started AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT id, 0, (SELECT p.workspace_id FROM run p WHERE p.id = new.parent), 'run.started', started
  FROM new WHERE (id IN (SELECT id FROM child)) IS TRUE),
told AS MATERIALIZED (
  SELECT id, type, body, nextval('inbox_seq') AS seq FROM tell
  WHERE (row IN (SELECT ord FROM held)) IS TRUE AND (id IN (SELECT id FROM held WHERE final)) IS NOT TRUE
    AND ((id IN (SELECT id FROM locked WHERE ord IS NULL)) IS TRUE OR (id IN (SELECT id FROM child)) IS TRUE)),
{PUT},
greeted AS MATERIALIZED (SELECT id, seq FROM news WHERE (id IN (SELECT id FROM child)) IS TRUE),
child_work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, due_at, attempt, token, owner, seen_version, signal,
    workspace_id)
  SELECT id, id, {Kind.RUN:d}, queue, CASE WHEN leased THEN now() + make_interval(secs => $30) ELSE now() END,
    leased::int, leased::int, CASE WHEN leased THEN $31 END, CASE WHEN leased THEN 0 END,
    coalesce((SELECT g.seq FROM greeted g WHERE g.id = new.id), 0),
    (SELECT p.workspace_id FROM run p WHERE p.id = new.parent)
  FROM new WHERE (id IN (SELECT id FROM child)) IS TRUE),
roused AS MATERIALIZED (
  SELECT id, nextval('inbox_seq') AS seq
  FROM (SELECT DISTINCT id FROM wake WHERE (row IN (SELECT ord FROM held)) IS TRUE) AS w
  WHERE (id IN (SELECT id FROM locked WHERE ord IS NULL)) IS TRUE),
changed AS MATERIALIZED (
  SELECT id, max(due_at) AS due_at, max(inbox) AS inbox, max(seq) AS seq FROM (
    SELECT id, due_at, inbox, NULL AS seq FROM held WHERE due_at IS NOT NULL
    UNION ALL SELECT id, NULL, NULL, seq FROM news
    UNION ALL SELECT id, NULL, NULL, seq FROM roused) AS c GROUP BY id),
released AS (
  UPDATE work_item w SET signal = coalesce(c.seq, w.signal),
    due_at = CASE
      WHEN c.due_at IS NULL THEN CASE WHEN w.owner IS NULL THEN least(w.due_at, now()) ELSE w.due_at END
      WHEN coalesce(c.seq, w.signal) > c.inbox THEN now()
      ELSE to_timestamp(c.due_at) END,
    owner = CASE WHEN c.due_at IS NULL THEN w.owner END,
    token = w.token + CASE WHEN c.due_at IS NULL THEN 0 ELSE 1 END,
    attempt = CASE WHEN c.due_at IS NULL THEN w.attempt ELSE 0 END
  FROM changed c WHERE w.id = c.id AND w.id = ANY (ARRAY(SELECT id FROM changed))),
cleared AS (
  DELETE FROM inbox b USING held h WHERE b.stream_id = h.id AND (h.final OR b.seq <= h.inbox)),
emit AS MATERIALIZED (
  SELECT * FROM unnest($32::bigint[], $33::uuid[], $34::uuid[], $35::jsonb[], $36::smallint[], $37::bytea[])
    AS t(row, run_id, id, metadata, codec, body)
  WHERE (row IN (SELECT ord FROM held)) IS TRUE),
emitted AS (
  INSERT INTO event (stream_id, version, workspace_id, type, metadata, headers, codec, body)
  SELECT id, 0, (SELECT p.workspace_id FROM run p WHERE p.id = run_id), 'delivery.received', metadata, '', codec, body
  FROM emit ORDER BY id
  ON CONFLICT DO NOTHING RETURNING stream_id, workspace_id),
emitted_work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, workspace_id)
  SELECT stream_id, stream_id, {Kind.DELIVERY:d}, '{DELIVERY_QUEUE}', workspace_id FROM emitted),
subscribed AS (
  INSERT INTO subscription (run_id, node, source, expression, key, until)
  SELECT run_id, node, source, expression, key, to_timestamp(until)
  FROM unnest($38::bigint[], $39::uuid[], $40::text[], $41::text[], $42::bytea[], $43::bytea[], $44::float8[])
    AS t(row, run_id, node, source, expression, key, until)
  WHERE (row IN (SELECT ord FROM held WHERE NOT final)) IS TRUE ORDER BY run_id, node
  ON CONFLICT (run_id, node) DO UPDATE SET source = excluded.source, expression = excluded.expression,
    key = excluded.key, until = excluded.until),
left_off AS (
  DELETE FROM subscription s USING unnest($45::bigint[], $46::uuid[], $47::text[]) AS t(row, run_id, node)
  WHERE s.run_id = t.run_id AND s.node = t.node AND (row IN (SELECT ord FROM held WHERE NOT final)) IS TRUE)
SELECT ord, id, queue, owner IS NOT NULL AS leased, signal, NULL::bigint AS told FROM locked
UNION ALL SELECT NULL, id, NULL, NULL, NULL, seq FROM news
UNION ALL SELECT NULL, id, NULL, NULL, NULL, seq FROM roused
"""


def is_plain(batch: Sequence[RunAppend]) -> bool:
    """Whether `APPEND` serves the batch."""
    return not any(row.effects or row.inbox for row in batch)


def rows(batch: Sequence[RunAppend]) -> tuple[list[Any], ...]:
    """The arguments of `APPEND`, and the first of `APPEND_ELABORATE`."""
    events = [event for row in batch for event in row.events]
    packed = [pack(event.body) for event in events]
    return (
        [row.id for row in batch],
        [row.token for row in batch],
        [row.version for row in batch],
        [row.status for row in batch],
        [isinstance(row.then, Finish) for row in batch],
        [row.then.due_at if isinstance(row.then, Yield) else None for row in batch],
        [row.error for row in batch],
        *ranges([len(row.events) for row in batch]),
        [row.inbox for row in batch],
        [event.version for event in events],
        [event.type for event in events],
        [codec for codec, _ in packed],
        [body for _, body in packed],
    )


def effects(batch: Sequence[RunAppend], lease: float, owner: str) -> tuple[Any, ...]:
    """The further arguments of `APPEND_ELABORATE`; rows count from 1."""
    tells = _of(batch, Tell)
    starts = _of(batch, StartRun)
    wakes = _of(batch, Wake)
    emits = [(row, id, emit, *pack(emit.body)) for row, id, emit in _of(batch, Emit)]
    # A node's last word counts: one statement cannot touch a subscription twice.
    last = {
        (number, one.node): (number, row.id, one)
        for number, row in enumerate(batch, 1)
        for one in row.effects
        if isinstance(one, Subscribe | Unsubscribe)
    }
    subscribed = [(row, id, one) for row, id, one in last.values() if isinstance(one, Subscribe)]
    left_off = [(row, id, one) for row, id, one in last.values() if isinstance(one, Unsubscribe)]
    return (
        [row for row, _, _ in tells],
        [tell.to for _, _, tell in tells],
        [tell.type for _, _, tell in tells],
        [tell.body for _, _, tell in tells],
        [row for row, _, _ in starts],
        [id for _, id, _ in starts],
        [start.run.id for _, _, start in starts],
        [start.run.workflow for _, _, start in starts],
        [start.run.workflow_hash for _, _, start in starts],
        [start.run.queue for _, _, start in starts],
        [start.run.started for _, _, start in starts],
        [start.run.leased for _, _, start in starts],
        [start.run.delivery_id for _, _, start in starts],
        [start.run.replay_of for _, _, start in starts],
        [start.run.fork_of for _, _, start in starts],
        lease,
        owner,
        [row for row, *_ in emits],
        [id for _, id, *_ in emits],
        [emit.id for _, _, emit, _, _ in emits],
        [emit.metadata for _, _, emit, _, _ in emits],
        [codec for _, _, _, codec, _ in emits],
        [body for _, _, _, _, body in emits],
        [row for row, _, _ in subscribed],
        [id for _, id, _ in subscribed],
        [one.node for _, _, one in subscribed],
        [one.source for _, _, one in subscribed],
        [one.expression for _, _, one in subscribed],
        [one.key for _, _, one in subscribed],
        [one.until for _, _, one in subscribed],
        [row for row, _, _ in left_off],
        [id for _, id, _ in left_off],
        [one.node for _, _, one in left_off],
        [row for row, _, _ in wakes],
        [wake.lane for _, _, wake in wakes],
    )


def ranges(lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """First and last place, counted from 1, of each of several lists laid end to end."""
    lasts = list(itertools.accumulate(lengths))
    return [last - length + 1 for last, length in zip(lasts, lengths, strict=True)], lasts


def size(row: RunAppend) -> int:
    """About the bytes of a row, for the journal."""
    brought = sum(
        len(one.run.started) if isinstance(one, StartRun) else len(one.body) if isinstance(one, Tell | Emit) else 0
        for one in row.effects
    )
    return 256 * (1 + len(row.effects)) + sum(len(event.body) for event in row.events) + brought


def _of(batch: Sequence[RunAppend], kind: type[_Effect]) -> list[tuple[int, UUID, _Effect]]:
    """The effects of one kind: the number of the row, its run, the effect."""
    return [
        (number, row.id, one) for number, row in enumerate(batch, 1) for one in row.effects if isinstance(one, kind)
    ]
