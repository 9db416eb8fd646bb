"""Replay: take a delivery through routing again, because a person asked for it.

A replay notes who and why on the delivery's stream and makes a work item of its own, beside the delivery's, so that
replaying what is still being processed disturbs nothing. A run replays as its delivery, for its workflow alone; a batch
as each of its items. A replay does not verify again: the receipt was verified when it was appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from events.codec import unpack
from events.database import Database
from events.errors import HeadraceError, NotFound, Unavailable
from events.ids import item_ids, uuid7
from events.types import REPLAY_QUEUE, Kind

# A note whose version another writer takes at the same time is left out, and tried again.
_REPLAY = f"""
WITH input AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::bool[]) AS t(id, delivery_id, body, routed)),
noted AS (
  INSERT INTO event (stream_id, version, workspace_id, type, body)
  SELECT i.delivery_id, last.version + 1, last.workspace_id, 'delivery.replayed', i.body
  FROM input i CROSS JOIN LATERAL (
    SELECT version, workspace_id FROM event e WHERE e.stream_id = i.delivery_id ORDER BY version DESC LIMIT 1) last
  ORDER BY i.delivery_id
  ON CONFLICT DO NOTHING RETURNING stream_id, workspace_id),
work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, only_workflow, workspace_id)
  SELECT id, delivery_id, {Kind.REPLAY:d}, '{REPLAY_QUEUE}', $5,
    (SELECT n.workspace_id FROM noted n WHERE n.stream_id = delivery_id LIMIT 1) FROM input
  WHERE routed AND (delivery_id IN (SELECT stream_id FROM noted)) IS TRUE)
SELECT stream_id FROM noted
"""
_FACTS = "SELECT metadata FROM event WHERE stream_id = $1 AND version = 0 AND type = 'delivery.received'"
_EXISTING = "SELECT stream_id FROM event WHERE stream_id = ANY ($1::uuid[]) AND version = 0"
_SAID = """
SELECT codec, body FROM event WHERE stream_id = ANY ($1::uuid[]) AND type IN ('delivery.routed', 'delivery.parked')
ORDER BY version
"""

AT_ONCE = 500
"""Items of a batch that are asked for in one commit."""
TRIES = 20
"""How often a note is tried for which others keep taking the version."""


class Replay(msgspec.Struct, frozen=True):
    """A replay that was asked for: its own id, the delivery, and the run it repeats, if it was a run's.

    `items`: of a batch, the replays of its items; the batch itself is not routed.
    """

    id: UUID
    delivery_id: UUID
    run_id: UUID | None
    workflow: str | None
    items: tuple[Replay, ...] = ()

    @property
    def parts(self) -> tuple[Replay, ...]:
        """What is routed: the items, or itself."""
        return self.items or (self,)


class _Facts(msgspec.Struct):
    items: int = 0
    handshake: str | None = None


async def replay(database: Database, id: UUID, *, actor: str, reason: str | None) -> Replay:
    """Asks for a replay of a delivery, a batch or a run.

    Raises:
        NotFound: there is no delivery and no run with this id.
        HeadraceError: it is a handshake, or a batch of which no item is in the log: there is nothing to route.
        Unavailable: of a large batch, some items may have been asked for already.
    """
    heads = await database.fetch("SELECT delivery_id, workflow FROM run WHERE id = $1", id)
    asked = Replay(
        id=uuid7(database.clock.now()),
        delivery_id=heads[0]["delivery_id"] if heads else id,
        run_id=id if heads else None,
        workflow=heads[0]["workflow"] if heads else None,
    )
    facts = await _facts(database, id, asked.delivery_id)
    if facts.items:
        asked = msgspec.structs.replace(asked, items=await _items(database, id, facts.items))
    rows = [asked, *asked.items]
    for start in range(0, len(rows), AT_ONCE):
        await _note(database, rows[start : start + AT_ONCE], actor, reason)
    return asked


async def _facts(database: Database, id: UUID, delivery_id: UUID) -> _Facts:
    first = await database.fetch(_FACTS, delivery_id)
    if not first:
        raise NotFound(f"no delivery and no run has the id {id}; `headrace events` and `headrace runs` list them")
    facts = msgspec.json.decode(first[0]["metadata"] or "{}", type=_Facts)
    if facts.handshake is not None:
        raise HeadraceError(
            f"delivery {id} is a handshake ({facts.handshake}): it was answered when it came, so nothing is replayed"
        )
    return facts


async def _items(database: Database, batch: UUID, count: int) -> tuple[Replay, ...]:
    """The replays of those items that are in the log."""
    ids = item_ids(batch, count)
    existing = {row[0] for row in await database.fetch(_EXISTING, ids)}
    if not existing:
        raise HeadraceError(
            f"batch {batch}: its {count} items had all come before, in other deliveries; replay those instead"
        )
    now = database.clock.now()
    return tuple(Replay(uuid7(now), id, None, None) for id in ids if id in existing)


async def _note(database: Database, rows: Sequence[Replay], actor: str, reason: str | None) -> None:
    """Notes the replays and makes their work items; those of batches have none."""
    for _ in range(TRIES):
        try:
            noted = await database.fetch(
                _REPLAY,
                [row.id for row in rows],
                [row.delivery_id for row in rows],
                [_body(row, actor, reason) for row in rows],
                [not row.items for row in rows],
                rows[0].workflow,
            )
        except Unavailable as error:
            if not isinstance(error.__cause__, asyncpg.DeadlockDetectedError):
                raise
            continue  # a worker was routing some of the items at the same time
        written = {row[0] for row in noted}
        rows = [row for row in rows if row.delivery_id not in written]
        if not rows:
            return
    raise Unavailable(f"the history of delivery {rows[0].delivery_id} is being written by others; try again")


def _body(asked: Replay, actor: str, reason: str | None) -> bytes:
    said: dict[str, object] = {"replay_id": asked.id, "actor": actor, "reason": reason, "run_id": asked.run_id}
    if asked.items:
        said["items"] = len(asked.items)
    return msgspec.json.encode(said)


async def outcomes(database: Database, parts: Sequence[Replay]) -> dict[UUID, dict[str, Any]]:
    """What the routing of replays said: the body of `delivery.routed` or `delivery.parked` by the replay's id, for
    those that were routed by now. Of a batch, ask for its `parts`.
    """
    ids = {str(part.id): part.id for part in parts}
    said: dict[UUID, dict[str, Any]] = {}
    for row in await database.fetch(_SAID, [part.delivery_id for part in parts]):
        body: dict[str, Any] = msgspec.json.decode(unpack(row["codec"], row["body"]))
        if (id := ids.get(str(body.get("item")))) is not None:
            said[id] = body
    return said


async def outcome(database: Database, asked: Replay) -> dict[str, object] | None:
    """`outcomes` for one that is no batch; None until it is routed."""
    return (await outcomes(database, [asked])).get(asked.id)
