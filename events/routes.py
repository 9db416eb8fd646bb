"""The statements that note what came of deliveries: the plain one, and the one for deliveries that runs may wait for or
that lanes are asked for runs by.

Both lock work items in id order before anything else; the elaborate one those of the deliveries, of the runs that are
subscribed to them and of the lanes together. It tells those runs of the delivery in the commit that ends the delivery's
work, so that a routing which is repeated after a crash tells them, and one that nobody repeats was committed. A
delivery one of whose lanes is not there is left alone and named (`lacking`): its lanes are made, by a statement of
their own, and it comes again (`events.lanes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from events.appends import ranges
from events.inbox import PUT, WAKE
from events.run_types import Routing
from events.types import Kind

_ROWS = """
  SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::int[], $5::text[], $6::bytea[], $7::int[], $8::int[])
    WITH ORDINALITY AS t(id, token, delivery_id, workspace_id, type, body, first, last, ord)"""
_WRITTEN = f"""
noted AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT delivery_id, 1 + (SELECT version FROM event e WHERE e.stream_id = delivery_id ORDER BY version DESC LIMIT 1),
    workspace_id, type, body
  FROM held),
done AS (DELETE FROM work_item WHERE id = ANY (ARRAY(SELECT id FROM held))),
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
  INSERT INTO work_item (id, stream_id, kind, queue, due_at, attempt, token, owner, seen_version,
    workspace_id)
  SELECT id, id, {Kind.RUN:d}, queue, CASE WHEN leased THEN now() + make_interval(secs => $16) ELSE now() END,
    leased::int, leased::int, CASE WHEN leased THEN $17 END, CASE WHEN leased THEN 0 END, workspace_id
  FROM new)"""

ROUTE = f"""
WITH input AS MATERIALIZED ({_ROWS}),
held AS MATERIALIZED (
  SELECT i.* FROM (SELECT * FROM input ORDER BY id) i CROSS JOIN LATERAL (
    SELECT FROM work_item w WHERE w.id = i.id AND w.token = i.token FOR UPDATE) w),
{_WRITTEN}
SELECT ord, NULL AS id, NULL AS queue, NULL AS leased, NULL AS told FROM held
"""

ROUTE_ELABORATE = f"""
WITH input AS MATERIALIZED ({_ROWS}),
meeting AS MATERIALIZED (
  SELECT a.row, a.delivery_id, s.run_id, s.node
  FROM unnest($18::bigint[], $19::uuid[], $20::text[], $21::bytea[], $22::bytea[])
    AS a(row, delivery_id, source, expression, key)
  JOIN subscription s USING (source, expression, key)),
asked AS MATERIALIZED (
  SELECT * FROM unnest($23::bigint[], $24::uuid[], $25::int[], $26::text[], $27::text[], $28::bytea[], $29::text[],
    $30::uuid[], $31::uuid[], $32::uuid[], $33::int[], $34::text[])
    AS t(row, lane_id, workspace_id, workflow, key, hash, queue, delivery_id, item, replay_of, size, traceparent)),
wanted AS MATERIALIZED (
  SELECT ord, id, token FROM input
  UNION ALL SELECT NULL, run_id, NULL FROM (SELECT DISTINCT run_id FROM meeting) AS m
  UNION ALL SELECT NULL, lane_id, NULL FROM (SELECT DISTINCT lane_id FROM asked) AS l),
locked AS MATERIALIZED (
  SELECT i.ord, w.id, w.queue, w.owner FROM (SELECT * FROM wanted ORDER BY id) i CROSS JOIN LATERAL (
    SELECT id, queue, owner FROM work_item w WHERE w.id = i.id
      AND CASE WHEN i.ord IS NULL THEN w.kind IN ({Kind.RUN:d}, {Kind.LANE:d}) ELSE w.token = i.token END
    FOR UPDATE) w),
lacking AS MATERIALIZED (
  SELECT row FROM asked WHERE (lane_id IN (SELECT id FROM locked WHERE ord IS NULL)) IS NOT TRUE),
held AS MATERIALIZED (
  SELECT * FROM input
  WHERE (ord IN (SELECT ord FROM locked)) IS TRUE AND (ord IN (SELECT row FROM lacking)) IS NOT TRUE),
{_WRITTEN},
told AS MATERIALIZED (
  SELECT run_id AS id, 'event.arrived' AS type, nextval('inbox_seq') AS seq,
    convert_to(json_build_object('node', node, 'delivery_id', delivery_id)::text, 'UTF8') AS body
  FROM meeting
  WHERE (row IN (SELECT ord FROM held)) IS TRUE
    AND (run_id IN (SELECT id FROM locked WHERE ord IS NULL)) IS TRUE),
{PUT},
woken AS ({WAKE}),
requested AS (
  INSERT INTO start_request (lane_id, seq, workspace_id, workflow, key, workflow_hash, queue, delivery_id, item,
    replay_of, size, traceparent, at)
  SELECT lane_id, nextval('inbox_seq'), workspace_id, workflow, key, hash, queue, delivery_id, item, replay_of, size,
    traceparent, clock_timestamp()
  FROM asked WHERE (row IN (SELECT ord FROM held)) IS TRUE
  RETURNING lane_id, seq),
called AS MATERIALIZED (SELECT lane_id AS id, max(seq) AS seq FROM requested GROUP BY lane_id),
roused AS ({WAKE.replace("FROM news", "FROM called")})
SELECT ord, id, queue, owner IS NOT NULL AS leased, NULL::bigint AS told, (ord IN (SELECT row FROM lacking)) AS lacking
  FROM locked
UNION ALL SELECT NULL, id, NULL, NULL, seq, false FROM news
UNION ALL SELECT NULL, id, NULL, NULL, seq, false FROM called
"""


def is_plain(batch: Sequence[Routing]) -> bool:
    """Whether `ROUTE` serves the batch."""
    return not any(row.arrivals or row.requests for row in batch)


def rows(batch: Sequence[Routing], lease: float, owner: str) -> tuple[Any, ...]:
    """The arguments of `ROUTE`, and the first of `ROUTE_ELABORATE`."""
    runs = [run for row in batch for run in row.runs]
    return (
        [row.id for row in batch],
        [row.token for row in batch],
        [row.delivery_id for row in batch],
        [row.workspace_id for row in batch],
        [row.type for row in batch],
        [row.body for row in batch],
        *ranges([len(row.runs) for row in batch]),
        [run.id for run in runs],
        [run.workflow for run in runs],
        [run.workflow_hash for run in runs],
        [run.queue for run in runs],
        [run.started for run in runs],
        [run.leased for run in runs],
        [run.replay_of for run in runs],
        lease,
        owner,
    )


def arrivals(batch: Sequence[Routing]) -> tuple[list[Any], ...]:
    """The further arguments of `ROUTE_ELABORATE`; rows count from 1."""
    all_ = [
        (number, row.delivery_id, one) for number, row in enumerate(batch, 1) for one in dict.fromkeys(row.arrivals)
    ]
    return (
        [number for number, _, _ in all_],
        [delivery_id for _, delivery_id, _ in all_],
        [one.source for _, _, one in all_],
        [one.expression for _, _, one in all_],
        [one.key for _, _, one in all_],
    )


def requests(batch: Sequence[Routing]) -> tuple[list[Any], ...]:
    """The last arguments of `ROUTE_ELABORATE`; rows count from 1."""
    all_ = [(number, one) for number, row in enumerate(batch, 1) for one in row.requests]
    return (
        [number for number, _ in all_],
        [one.lane_id for _, one in all_],
        [one.workspace_id for _, one in all_],
        [one.workflow for _, one in all_],
        [one.key for _, one in all_],
        [one.workflow_hash for _, one in all_],
        [one.queue for _, one in all_],
        [one.delivery_id for _, one in all_],
        [one.item for _, one in all_],
        [one.replay_of for _, one in all_],
        [one.size for _, one in all_],
        [one.traceparent for _, one in all_],
    )
