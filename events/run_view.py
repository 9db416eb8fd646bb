"""One run with its end, in one question: for whoever is asked about a run many times a second."""

from __future__ import annotations

from uuid import UUID

import msgspec

from events.codec import unpack
from events.database import Database
from events.log import RunSummary

_VIEW = """
SELECT r.id, r.workflow, r.status, r.version, r.delivery_id, r.replay_of, r.parent,
  extract(epoch FROM r.started_at)::float8 AS started_at, extract(epoch FROM r.ended_at)::float8 AS ended_at, r.error,
  EXISTS (SELECT FROM work_item w WHERE w.id = r.id) AS open, e.codec, e.body
FROM run r LEFT JOIN event e ON e.stream_id = r.id AND e.version = r.version AND r.status = 'completed'
WHERE r.id = $1 AND r.workspace_id = $2
"""


class RunView(msgspec.Struct, frozen=True):
    """A run. `goes_on`: it has not ended, or was reopened. `last`: the JSON of its last event, if it completed."""

    summary: RunSummary
    goes_on: bool
    last: bytes | None


async def view(database: Database, run_id: UUID, workspace_id: int) -> RunView | None:
    """A run of a workspace; None if it has none of this id."""
    rows = await database.fetch(_VIEW, run_id, workspace_id)
    if not rows:
        return None
    row = rows[0]
    summary = RunSummary(**{name: row[name] for name in RunSummary.__struct_fields__})
    return RunView(summary, row["open"], None if row["codec"] is None else unpack(row["codec"], row["body"]))
