"""Questions to the log whose answers show that nothing was lost and nothing was done twice.

They share no code with what wrote the log, and read the tables that hold the facts, not the lists made of
them. They scan the whole log: for a demonstration or a test, not for a busy system.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from events.codec import unpack
from events.database import Database

_RECEIPTS = """
SELECT stream_id, codec, body FROM event WHERE type = 'delivery.received' AND stream_id = ANY($1::uuid[])
"""
# Items and handshakes are in the log too, but no sender was told their ids.
_OTHERS = """
SELECT count(*) FROM event WHERE type = 'delivery.received'
  AND NOT coalesce(metadata, '{}') ?| ARRAY['batch', 'handshake']
  AND stream_id NOT IN (SELECT unnest($1::uuid[]))
"""
_OF_RUNS = """
SELECT stream_id, type, codec, body FROM event
WHERE type IN ('run.started', 'node.completed', 'run.completed', 'run.failed', 'run.parked')
ORDER BY stream_id, version
"""
_ENDS = ("run.completed", "run.failed", "run.parked")


class Receipts(msgspec.Struct, frozen=True):
    """What became of acknowledged deliveries. `in_log`: of them, exactly once and with the same bytes."""

    acknowledged: int
    in_log: int
    extra: int
    """Receipts in the log beyond one for each acknowledged delivery; a batch is one."""


class StartedRun(msgspec.Struct, frozen=True):
    """A run as its own events tell. `ends`: how often it ended; once, if all is well."""

    id: UUID
    workflow: str
    delivery_id: UUID
    replay: bool
    ends: int
    completed: bool


class History(msgspec.Struct, frozen=True):
    """What all runs' events say together."""

    runs: list[StartedRun]
    nodes_completed_twice: int


async def receipts(database: Database, acknowledged: Mapping[UUID, bytes]) -> Receipts:
    """Compares what senders were told with what is in the log.

    Args:
        acknowledged: the body that was sent, by the id that was answered.
    """
    found: dict[UUID, list[bytes]] = {}
    for id, codec, body in await database.fetch(_RECEIPTS, list(acknowledged)):
        found.setdefault(id, []).append(unpack(codec, body))
    others = await database.fetchval(_OTHERS, list(acknowledged))
    same = sum(found.get(id) == [body] for id, body in acknowledged.items())
    twice = sum(len(bodies) - 1 for bodies in found.values())
    return Receipts(len(acknowledged), same, others + twice)


async def history(database: Database) -> History:
    """Every run that ever started, as its events tell."""
    events: dict[UUID, list[tuple[str, dict[str, Any]]]] = {}
    for id, type, codec, body in await database.fetch(_OF_RUNS):
        events.setdefault(id, []).append((type, msgspec.json.decode(unpack(codec, body))))
    nodes = Counter((id, said["node"]) for id, run in events.items() for type, said in run if type == "node.completed")
    return History([_run(id, run) for id, run in events.items()], sum(count > 1 for count in nodes.values()))


async def work_left(database: Database) -> int:
    """How many work items there are: deliveries to route and runs that have not ended."""
    return int(await database.fetchval("SELECT count(*) FROM work_item"))


async def held_by(database: Database, pid: int) -> int:
    """How many work items a process of this machine holds, or held when it died."""
    return int(await database.fetchval("SELECT count(*) FROM work_item WHERE owner LIKE '%:' || $1", str(pid)))


def _run(id: UUID, events: list[tuple[str, dict[str, Any]]]) -> StartedRun:
    started = events[0][1]
    types = [type for type, _ in events]
    return StartedRun(
        id=id,
        workflow=started["workflow"],
        delivery_id=UUID(started["delivery_id"]),
        replay=started.get("replay_of") is not None,
        ends=sum(type in _ENDS for type in types),
        completed="run.completed" in types,
    )
