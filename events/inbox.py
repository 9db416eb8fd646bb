"""The inbox of runs: what everybody but the holder of a run has to say to it.

The holder of a run's work item alone writes the run's stream; everybody else puts a row here. What is promised:

- Rows of one run have ascending `seq`, in the order in which they were committed: a `seq` is drawn under the lock of
  the run's work item. Whoever has read up to `seq` has missed nothing before it.
- No lost wake-up: `work_item.signal` is the newest `seq`. A run that nobody holds becomes due with the row, in the same
  commit; one that is let go with a newer signal than it has read (`events.runs`) is due at once.
- A run that has ended has no work item, and gets nothing (`events.control.reopen` is for those).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from events.database import Database
from events.types import Kind

# For a statement with a CTE `told (id, seq, type, body)`, whose work items it has locked.
PUT = """
news AS MATERIALIZED (SELECT id, max(seq) AS seq FROM told GROUP BY id),
put AS (INSERT INTO inbox (stream_id, seq, type, body) SELECT id, seq, type, body FROM told)"""
WAKE = """
UPDATE work_item w SET signal = n.seq, due_at = CASE WHEN w.owner IS NULL THEN least(w.due_at, now()) ELSE w.due_at END
FROM news n WHERE w.id = n.id AND w.id = ANY (ARRAY(SELECT id FROM news))"""

# nextval is drawn after the lock: the hash table of `locked` is complete before the first row passes WHERE.
_SEND = f"""
WITH locked AS MATERIALIZED (
  SELECT id, queue, owner FROM work_item WHERE id = ANY ($1::uuid[]) AND kind = {Kind.RUN:d} ORDER BY id FOR UPDATE),
told AS MATERIALIZED (
  SELECT ord, id, type, body, nextval('inbox_seq') AS seq
  FROM unnest($1::uuid[], $2::text[], $3::bytea[]) WITH ORDINALITY AS t(id, type, body, ord)
  WHERE (id IN (SELECT id FROM locked)) IS TRUE),
{PUT},
woken AS ({WAKE})
SELECT ord, id, seq, NULL AS queue, NULL AS leased FROM told
UNION ALL SELECT NULL, id, NULL, queue, owner IS NOT NULL FROM locked
"""
_READ = "SELECT seq, type, body FROM inbox WHERE stream_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
_SIGNALS = "SELECT id, signal FROM work_item WHERE id = ANY ($1::uuid[]) AND signal > 0"

MOST_ROWS = 1_000
"""How many rows one `read` answers with; whoever gets as many asks again."""


class InboxRow(msgspec.Struct, frozen=True):
    """A row; `body` is JSON."""

    seq: int
    type: str
    body: bytes


class Message(msgspec.Struct, frozen=True):
    """What is to be said to a run; `body` is JSON."""

    to: UUID
    type: str
    body: bytes


class Sent(msgspec.Struct, frozen=True):
    """The row is in the run's inbox. `queue`: where to ring, unless `leased`: its holder looks by itself."""

    seq: int
    queue: str
    leased: bool


class Ended(msgspec.Struct, frozen=True):
    """The run has ended, or there is none with this id: nothing was written."""


async def send(database: Database, messages: Sequence[Message]) -> list[Sent | Ended]:
    """Puts rows into inboxes, all in one commit; one answer per message. Rows of one run keep the order given."""
    rows = await database.fetch(
        _SEND, [one.to for one in messages], [one.type for one in messages], [one.body for one in messages]
    )
    places = {row["id"]: (row["queue"], row["leased"]) for row in rows if row["ord"] is None}
    sent = {row["ord"]: Sent(row["seq"], *places[row["id"]]) for row in rows if row["ord"] is not None}
    return [sent.get(ord, Ended()) for ord in range(1, len(messages) + 1)]


async def read(database: Database, stream_id: UUID, after: int) -> list[InboxRow]:
    """The first rows of a run with a seq above `after`, at most `MOST_ROWS`, in their order."""
    return [InboxRow(*row) for row in await database.fetch(_READ, stream_id, after, MOST_ROWS)]


async def signals(database: Database, held: Sequence[UUID]) -> dict[UUID, int]:
    """The newest seq of each of these runs that ever got a row. Cheap: for a holder's look at all that it holds."""
    return {row["id"]: row["signal"] for row in await database.fetch(_SIGNALS, list(held))} if held else {}
