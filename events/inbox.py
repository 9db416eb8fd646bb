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
    raise NotImplementedError


async def read(database: Database, stream_id: UUID, after: int) -> list[InboxRow]:
    """The rows of a run with a seq above `after`, in their order."""
    raise NotImplementedError


async def signals(database: Database, held: Sequence[UUID]) -> dict[UUID, int]:
    """The newest seq of each of these runs that ever got a row. Cheap: for a holder's look at all that it holds."""
    raise NotImplementedError
