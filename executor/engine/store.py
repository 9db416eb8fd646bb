"""What a run reads while it is carried on, besides its own fold: its inbox, deliveries, what it left in its events.

`RunStore` is all that the driver knows of storage beside the journal; `LogStore` is the event log's.
"""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

import msgspec

from events import log
from events.database import Database
from events.errors import HeadraceError
from events.inbox import read as read_inbox
from events.types import Event
from events.waits import arrivals
from executor.workflow.facts import ItemEnded, NodeCompleted, decode
from executor.workflow.signals import Signal
from executor.workflow.signals import decode as decode_signal


class Row(msgspec.Struct, frozen=True):
    """A row of the inbox."""

    seq: int
    signal: Signal


class RunStore(Protocol):
    """What the driver asks for. Each may raise Unavailable."""

    async def inbox(self, run_id: UUID, after: int) -> list[Row]:
        """The rows with a seq above `after`, in their order."""

    async def arrivals(self, source: str, expression: bytes, key: bytes, since: float) -> list[UUID]:
        """Deliveries of the source with this key that came at `since` (Unix seconds) or later, oldest first."""

    async def delivery(self, id: UUID) -> Event | None:
        """A delivery's receipt."""

    async def output(self, run_id: UUID, version: int) -> Any:
        """The output in a run's `node.completed` of that version."""

    async def ended_items(self, run_id: UUID, path: str) -> list[ItemEnded]:
        """All `item.ended` of a map in a run, in the order of the log."""


class LogStore:
    """A RunStore over PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def inbox(self, run_id: UUID, after: int) -> list[Row]:
        rows = await read_inbox(self._database, run_id, after)
        return [Row(row.seq, decode_signal(row.type, row.body)) for row in rows]

    async def arrivals(self, source: str, expression: bytes, key: bytes, since: float) -> list[UUID]:
        return await arrivals(self._database, source, expression, key, since)

    async def delivery(self, id: UUID) -> Event | None:
        events = await log.stream(self._database, id, 0, 0)
        return events[0] if events else None

    async def output(self, run_id: UUID, version: int) -> Any:
        events = await log.stream(self._database, run_id, version, version)
        fact = decode(events[0].type, events[0].body or b"") if events else None
        if not isinstance(fact, NodeCompleted):
            raise HeadraceError(f"run {run_id}: expected node.completed at version {version}, got {fact}")
        return fact.output

    async def ended_items(self, run_id: UUID, path: str) -> list[ItemEnded]:
        facts = (
            decode(event.type, event.body or b"") for event in await log.of_type(self._database, run_id, "item.ended")
        )
        return [fact for fact in facts if isinstance(fact, ItemEnded) and fact.node == path]
