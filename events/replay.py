"""Replay: take a delivery through routing again, because a person asked for it.

One statement notes who and why on the delivery's stream and makes a work item of the replay's own, beside the
delivery's, so that replaying what is still being processed disturbs nothing. A run replays as its delivery, for its
workflow alone. A replay does not verify again: the receipt was verified when it was appended.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from events.codec import unpack
from events.database import Database
from events.errors import BadRow, NotFound, Unavailable
from events.ids import uuid7
from events.types import REPLAY_QUEUE, Kind

_REPLAY = f"""
WITH last AS (
  SELECT version, workspace_id FROM event WHERE stream_id = $1 ORDER BY version DESC LIMIT 1),
noted AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT $1, version + 1, workspace_id, 'delivery.replayed', $3 FROM last)
INSERT INTO work_item (id, stream_id, kind, queue, only_workflow)
SELECT $2, $1, {Kind.REPLAY:d}, '{REPLAY_QUEUE}', $4 FROM last RETURNING id
"""


class Replay(msgspec.Struct, frozen=True):
    """A replay that was asked for: its own id, the delivery, and the run it repeats, if it was a run's."""

    id: UUID
    delivery_id: UUID
    run_id: UUID | None
    workflow: str | None


async def replay(database: Database, id: UUID, *, actor: str, reason: str | None) -> Replay:
    """Asks for a replay of a delivery or a run.

    Raises:
        NotFound: there is no delivery and no run with this id.
    """
    heads = await database.fetch("SELECT delivery_id, workflow FROM run WHERE id = $1", id)
    asked = Replay(
        id=uuid7(database.clock.now()),
        delivery_id=heads[0]["delivery_id"] if heads else id,
        run_id=id if heads else None,
        workflow=heads[0]["workflow"] if heads else None,
    )
    body = msgspec.json.encode({"replay_id": asked.id, "actor": actor, "reason": reason, "run_id": asked.run_id})
    for _ in range(5):  # another writer on the delivery's stream may take the version first
        try:
            rows = await database.fetch(_REPLAY, asked.delivery_id, asked.id, body, asked.workflow)
        except BadRow:
            continue
        if not rows:
            raise NotFound(f"no delivery and no run has the id {id}; `headrace events` and `headrace runs` list them")
        return asked
    raise Unavailable(f"the history of delivery {asked.delivery_id} is being written by others; try again")


async def outcome(database: Database, asked: Replay) -> dict[str, object] | None:
    """What the routing of a replay said: the body of its `delivery.routed` or `delivery.parked`, None until then."""
    rows = await database.fetch(
        "SELECT codec, body FROM event "
        "WHERE stream_id = $1 AND type IN ('delivery.routed', 'delivery.parked') ORDER BY version",
        asked.delivery_id,
    )
    for row in rows:
        body: dict[str, object] = msgspec.json.decode(unpack(row["codec"], row["body"]))
        if body.get("item") == str(asked.id):
            return body
    return None
