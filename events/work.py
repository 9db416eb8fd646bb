"""The work list: claim, renew, fail, give back.

PostgreSQL is the truth about what is left to do and when; Redis only says "look". A row is claimable when it is due. A
claim raises the token (the fence), pushes `due_at` on by a lease, and so hides the row: a lease that is not renewed
makes the row due again by itself, and nothing has to notice a death.

Departures from the first design, and why:

- A doorbell names no rows; a claim takes whatever is due in its queue (`events.claims`). With (id, token) pairs in the
  messages the relay has to raise tokens to re-ring, which turns every message still queued behind a backlog into
  rubbish, and Redis holds a copy of the backlog. Now the relay writes nothing, a lost or flushed Redis needs no epoch
  to be noticed, and doorbells can be dropped when enough of them wait already.
- `attempt` counts claims *without progress in between* (for a run: without a new event), so that a long run that
  outlives many deployments is not mistaken for a poisonous one.
- A row at its second attempt or later is a suspect: somebody who held it died twice without getting anywhere. A process
  claims one suspect at a time, so that what kills workers cannot take its neighbours' attempts with it.

Claims never wait for a lock. Renewals and appends lock in id order.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import msgspec

from events.claims import CLAIM
from events.codec import unpack
from events.database import Database
from events.types import Event, Kind, WorkItem

# Items are looked up by arrays of ids and not by joins: PostgreSQL may believe that the list is all but empty, because
# it was when it was last analysed, and then walks all of it for each row of the other side.
_LOCKED = """
WITH input AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS t(id, token)),
held AS MATERIALIZED (
  SELECT w.id FROM (SELECT * FROM input ORDER BY id) i CROSS JOIN LATERAL (
    SELECT id FROM work_item w WHERE w.id = i.id AND w.token = i.token FOR UPDATE) w)
UPDATE work_item w SET {change} WHERE w.id = ANY (ARRAY(SELECT id FROM held)) RETURNING w.id
"""
_RENEW = _LOCKED.format(change="due_at = now() + make_interval(secs => $3)")
_FAIL = _LOCKED.format(
    change="due_at = now() + make_interval(secs => $3), owner = NULL, token = w.token + 1, error = left($4, 2000)"
)
_DISCARD = _LOCKED.replace("UPDATE work_item w SET {change}", "DELETE FROM work_item w")
_GIVE_BACK = _LOCKED.format(
    change="due_at = now(), owner = NULL, token = w.token + 1, attempt = greatest(w.attempt - 1, 0)"
)
Held = tuple[UUID, int]
"""What a process holds: a work item's id and the token it got."""


class WorkList:
    """The work list as one process sees it.

    Args:
        owner: who claims, shown to people: host, pid, queue.
        lease: seconds until a claimed item is due again unless renewed.
    """

    def __init__(self, database: Database, *, owner: str, lease: float) -> None:
        self._database = database
        self.owner = owner
        self.lease = lease
        self._served: dict[str, tuple[int, int]] = {}

    async def claim(self, queue: str, limit: int, suspects: int) -> list[WorkItem]:
        """Takes up to `limit` due items, and up to `suspects` of those that have failed before: workspaces in turn, and
        of each the oldest first. The next claim goes on with the workspace after the last that was served.
        """
        after = self._served.get(queue, (0, 0))
        rows = await self._database.fetch(CLAIM, queue, limit, suspects, self.owner, self.lease, *after)
        if rows and rows[0]["last_workspace"] is not None:
            self._served[queue] = (rows[0]["last_workspace"], rows[0]["last_kind"])
        return [_item(row) for row in rows]

    async def renew(self, held: Sequence[Held]) -> set[UUID]:
        """Pushes the leases on. What is missing from the answer is lost: stop touching it."""
        return await self._change(_RENEW, held, self.lease)

    async def fail(self, held: Sequence[Held], delay: float, error: str) -> set[UUID]:
        """Makes the items due again after `delay` seconds; the attempt stays counted."""
        return await self._change(_FAIL, held, delay, error)

    async def give_back(self, held: Sequence[Held]) -> set[UUID]:
        """Makes the items due at once and takes the attempt back: nobody is to blame."""
        return await self._change(_GIVE_BACK, held)

    async def discard(self, held: Sequence[Held]) -> set[UUID]:
        """Removes items that there is nothing left to do for."""
        return await self._change(_DISCARD, held)

    async def _change(self, statement: str, held: Sequence[Held], *more: object) -> set[UUID]:
        if not held:
            return set()
        rows = await self._database.fetch(statement, [id for id, _ in held], [token for _, token in held], *more)
        return {row[0] for row in rows}


def _item(row: asyncpg.Record) -> WorkItem:
    receipt = None
    if row["delivery_id"] is not None:
        receipt = Event(
            stream_id=row["delivery_id"],
            version=0,
            type="delivery.received",
            recorded_at=row["recorded_at"].timestamp(),
            source_id=row["source_id"],
            metadata=msgspec.json.decode(row["metadata"]) if row["metadata"] else {},
            headers=row["headers"],
            body=unpack(row["codec"], row["body"]),
        )
    return WorkItem(
        id=row["id"],
        stream_id=row["stream_id"],
        kind=Kind(row["kind"]),
        queue=row["queue"],
        token=row["token"],
        attempt=row["attempt"],
        only_workflow=row["only_workflow"],
        error=row["error"],
        version=row["seen_version"],
        epoch=row["epoch"],
        signal=row["signal"],
        lane=row["lane"],
        workspace_id=row["workspace_id"],
        slot=row["slot"],
        receipt=receipt,
    )
