"""The claim: who gets the next due items, fair between workspaces and within the limit of each.

**Fair.** Within a queue, the workspaces that have something due take turns, one item each, until a claim is full; the
next claim of the same process goes on after the workspace that came last. (What takes turns is a workspace's
deliveries, its runs and its lanes, each: none of them waits for all of another.) Within a workspace the oldest comes
first. Who has something due is found out by one look at the index for each workspace: ten thousand items that wait cost
as much as one, and a thousand workspaces about 10 ms.

**Limited.** A workspace may have a limit of runs that are carried on at the same time, on all workers together. A run
of such a workspace takes a slot in the claim, and has it for as long as somebody holds the run: `slot AND owner IS NOT
NULL`. It comes back in whatever statement lets the run go, with no statement of its own that could be forgotten, and
there are never more than the limit:

- One claim at a time takes slots of a workspace: it locks the workspace's row, and passes a locked one over.
- The slots are counted in the claim's snapshot, which may be older than the lock. `turn` rises with every claim that
  takes slots. Where the row that was locked has another `turn` than the snapshot, the count is out of date and the
  workspace is passed over; it is looked at again at the next claim.
- A lease that ran out keeps its slot until the run is claimed again, which takes no further one. So the time at which a
  lease ends cannot make two of one slot, and a dead worker's slots come back with its runs.

The first design kept slots in Redis, as leases that holders renew, with a time above the limit after a FLUSHALL. Here
they are part of the row that says who holds a run: they survive whatever that row does, nothing is renewed, and a run
of a workspace without a limit pays nothing. A run that sleeps, or that waits for its place, costs its one row.
"""

from __future__ import annotations

from collections.abc import Sequence

from events.database import Database
from events.types import Kind

_VERSION = "(SELECT r.version FROM run r WHERE r.id = w.id)"
_DUE = "w.queue = $1 AND w.due_at <= now() AND w.attempt < 2"
_SLOT = "w.slot AND w.owner IS NOT NULL"
_SLOTS_OF = """(SELECT count(*) FROM work_item h
    WHERE h.workspace_id = {workspace} AND h.slot AND h.owner IS NOT NULL)"""

# $1 queue, $2 how many, $3 how many suspects, $4 owner, $5 lease, ($6, $7) whom the last claim served last.
CLAIM = f"""
WITH RECURSIVE pair AS (
  (SELECT workspace_id, kind, due_at FROM work_item w WHERE w.queue = $1 AND w.attempt < 2
   ORDER BY workspace_id, kind, due_at LIMIT 1)
  UNION ALL
  SELECT n.* FROM pair p CROSS JOIN LATERAL (
    SELECT w.workspace_id, w.kind, w.due_at FROM work_item w
    WHERE w.queue = $1 AND w.attempt < 2 AND (w.workspace_id, w.kind) > (p.workspace_id, p.kind)
    ORDER BY w.workspace_id, w.kind, w.due_at LIMIT 1) n),
due AS MATERIALIZED (
  SELECT p.workspace_id, p.kind, CASE p.kind WHEN {Kind.RUN:d} THEN s.concurrency END AS concurrency
  FROM pair p LEFT JOIN workspace s ON s.id = p.workspace_id WHERE p.due_at <= now()),
doubtful AS MATERIALIZED (
  SELECT w.workspace_id FROM work_item w
  WHERE w.queue = $1 AND w.due_at <= now() AND w.attempt >= 2 AND w.kind = {Kind.RUN:d} ORDER BY w.due_at LIMIT 100),
gate AS MATERIALIZED (
  SELECT g.id, g.concurrency, g.turn FROM workspace g
  WHERE g.concurrency IS NOT NULL AND g.id = ANY (ARRAY(
    SELECT workspace_id FROM due WHERE concurrency IS NOT NULL UNION SELECT workspace_id FROM doubtful))
  ORDER BY g.id FOR NO KEY UPDATE OF g SKIP LOCKED),
open AS MATERIALIZED (
  SELECT g.id, g.concurrency - {_SLOTS_OF.format(workspace="g.id")} AS free
  FROM gate g WHERE g.turn = (SELECT s.turn FROM workspace s WHERE s.id = g.id)),
suspect AS MATERIALIZED (
  SELECT w.id, w.workspace_id, w.kind, ({_SLOT}) AS slotted FROM work_item w
  WHERE w.queue = $1 AND w.due_at <= now() AND w.attempt >= 2
    AND (w.kind <> {Kind.RUN:d} OR ({_SLOT})
      OR NOT EXISTS (SELECT FROM workspace s WHERE s.id = w.workspace_id AND s.concurrency IS NOT NULL)
      OR EXISTS (SELECT FROM open o WHERE o.id = w.workspace_id AND o.free > 0))
  ORDER BY w.due_at LIMIT $3 FOR UPDATE OF w SKIP LOCKED),
tried AS MATERIALIZED (
  SELECT * FROM (SELECT s.*, row_number() OVER (PARTITION BY workspace_id, kind, slotted) AS n FROM suspect s) AS s
  WHERE kind <> {Kind.RUN:d} OR slotted OR coalesce(n <= (SELECT o.free FROM open o WHERE o.id = workspace_id), true)),
expired AS MATERIALIZED (
  SELECT w.id FROM work_item w
  WHERE {_SLOT} AND {_DUE}
    AND w.workspace_id = ANY (ARRAY(SELECT workspace_id FROM due WHERE concurrency IS NOT NULL))
  ORDER BY w.due_at LIMIT $2 FOR UPDATE OF w SKIP LOCKED),
most AS MATERIALIZED (
  SELECT d.workspace_id, d.kind, CASE WHEN d.concurrency IS NULL THEN $2
    ELSE coalesce((SELECT o.free FROM open o WHERE o.id = d.workspace_id), 0)
      - (SELECT count(*) FROM tried t WHERE t.workspace_id = d.workspace_id AND t.kind = d.kind AND NOT t.slotted)
    END AS n
  FROM due d),
turns AS MATERIALIZED (
  SELECT m.workspace_id, m.kind, k FROM most m CROSS JOIN LATERAL generate_series(1, least(m.n,
    CASE WHEN (SELECT count(*) FROM most) = 1 THEN $2 ELSE (SELECT count(*) FROM (
      SELECT FROM work_item w WHERE {_DUE} AND w.workspace_id = m.workspace_id AND w.kind = m.kind LIMIT $2) AS c)
    END)) AS k
  ORDER BY k, (m.workspace_id, m.kind) <= ($6::int, $7::int), m.workspace_id, m.kind
  LIMIT $2 - (SELECT count(*) FROM expired)),
last AS (
  SELECT workspace_id, kind FROM turns
  ORDER BY k DESC, (workspace_id, kind) <= ($6::int, $7::int) DESC, workspace_id DESC, kind DESC LIMIT 1),
fresh AS MATERIALIZED (
  SELECT f.id FROM (SELECT workspace_id, kind, count(*) AS n FROM turns GROUP BY workspace_id, kind) AS s
  CROSS JOIN LATERAL (
    SELECT w.id FROM work_item w WHERE {_DUE} AND w.workspace_id = s.workspace_id AND w.kind = s.kind
    ORDER BY w.due_at LIMIT s.n FOR UPDATE OF w SKIP LOCKED) AS f),
taken AS (
  UPDATE work_item w SET token = w.token + 1, owner = $4, due_at = now() + make_interval(secs => $5),
    attempt = CASE WHEN w.seen_version IS DISTINCT FROM {_VERSION} THEN 1 ELSE w.attempt + 1 END,
    seen_version = {_VERSION},
    slot = w.kind = {Kind.RUN:d} AND w.workspace_id = ANY (ARRAY(SELECT id FROM workspace WHERE concurrency > 0))
  WHERE w.id = ANY (ARRAY(SELECT id FROM fresh UNION ALL SELECT id FROM expired UNION ALL SELECT id FROM tried))
  RETURNING w.*),
turned AS (
  UPDATE workspace g SET turn = g.turn + 1
  WHERE g.id = ANY (ARRAY(SELECT id FROM gate)) AND g.id = ANY (ARRAY(SELECT workspace_id FROM taken WHERE slot)))
SELECT t.id, t.stream_id, t.kind, t.queue, t.token, t.attempt, t.only_workflow, t.error, t.seen_version, t.signal,
  t.lane, t.workspace_id, t.slot, (SELECT epoch FROM config) AS epoch,
  (SELECT workspace_id FROM last) AS last_workspace, (SELECT kind FROM last) AS last_kind,
  e.stream_id AS delivery_id, e.recorded_at, e.source_id, e.metadata, e.headers, e.codec, e.body
FROM taken t LEFT JOIN event e ON e.version = 0
  AND e.stream_id = CASE t.kind
    WHEN {Kind.RUN:d} THEN (SELECT delivery_id FROM run r WHERE r.id = t.id) ELSE t.stream_id END
ORDER BY t.id
"""

# Runs that wait for a place are due, but not for anybody: where all slots are taken, the next look is when the first
# lease of one ends. Whoever frees a slot rings.
_NEXT_DUE = f"""
WITH RECURSIVE pair AS (
  SELECT f.* FROM unnest($1::text[]) AS q(queue) CROSS JOIN LATERAL (
    SELECT w.queue, w.workspace_id, w.kind, w.due_at FROM work_item w WHERE w.queue = q.queue AND w.attempt < 2
    ORDER BY w.workspace_id, w.kind, w.due_at LIMIT 1) AS f
  UNION ALL
  SELECT n.* FROM pair p CROSS JOIN LATERAL (
    SELECT w.queue, w.workspace_id, w.kind, w.due_at FROM work_item w
    WHERE w.queue = p.queue AND w.attempt < 2 AND (w.workspace_id, w.kind) > (p.workspace_id, p.kind)
    ORDER BY w.workspace_id, w.kind, w.due_at LIMIT 1) AS n),
next AS (
  SELECT p.queue, CASE
    WHEN p.kind = {Kind.RUN:d} AND s.concurrency <= {_SLOTS_OF.format(workspace="p.workspace_id")}
    THEN (SELECT min(w.due_at) FROM work_item w WHERE w.workspace_id = p.workspace_id AND {_SLOT} AND w.queue = p.queue)
    ELSE p.due_at END AS due_at
  FROM pair p LEFT JOIN workspace s ON s.id = p.workspace_id
  UNION ALL
  SELECT q.queue, (SELECT due_at FROM work_item w WHERE w.queue = q.queue AND w.attempt >= 2 ORDER BY due_at LIMIT 1)
  FROM unnest($1::text[]) AS q(queue))
SELECT queue, extract(epoch FROM min(due_at))::float8 AS due_at, extract(epoch FROM now())::float8 AS now
FROM next GROUP BY queue
"""


async def next_due(database: Database, queues: Sequence[str]) -> dict[str, float]:
    """Per queue with any items, in how many seconds the next one is due: negative when it is overdue, infinite when
    all of them wait to be told something. What waits for a place of its workspace is left out.
    """
    rows = await database.fetch(_NEXT_DUE, list(queues))
    return {row["queue"]: row["due_at"] - row["now"] for row in rows if row["due_at"] is not None}
