"""What people do to whole runs: have ended ones go on, and start new ones from events that they bring along.

Nothing here writes to the stream of a run that exists: a reopened run gets a work item and a row in its inbox, and its
next holder notes what that comes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from events.database import Database
from events.runs import NewEvent, NewRun, Status


class Reopen(msgspec.Struct, frozen=True):
    """An ended run that is to go on. `body` is the JSON of the row `retry` that it finds in its inbox.

    `queue`: where it goes on; None is the queue that its workflow's version names.
    """

    id: UUID
    body: bytes
    queue: str | None = None


class Start(msgspec.Struct, frozen=True):
    """A run to be created with a history: `run.started` of the run itself is version 0, `events` follow from 1 on.

    Its work item is due at once for anybody (`run.leased` is not looked at).
    """

    run: NewRun
    events: tuple[NewEvent, ...] = ()
    status: Status = "running"
    workspace_id: int = 1


async def reopen(database: Database, runs: Sequence[Reopen]) -> dict[UUID, str]:
    """Has ended runs go on; the queue to ring for each that will.

    Missing from the answer: what has not ended, has completed, is being reopened already, or is not known.
    """
    raise NotImplementedError


async def start(database: Database, runs: Sequence[Start]) -> list[bool]:
    """Creates runs, all in one commit; one answer per run: False where its id is taken already (nothing is written)."""
    raise NotImplementedError
