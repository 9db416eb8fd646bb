"""What a worker asks the log to write about the runs and deliveries that it holds (`events.runs` writes it)."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from events.effects import Arrival, Effect, NewRun, StartRequest

Status = Literal["running", "waiting", "paused", "completed", "failed", "cancelled", "parked"]


class NewEvent(msgspec.Struct, frozen=True):
    """A fact about to be appended; `body` is JSON."""

    version: int
    type: str
    body: bytes


class Keep(msgspec.Struct, frozen=True):
    """The holder goes on with the run."""


class Finish(msgspec.Struct, frozen=True):
    """The run has ended: its work item goes, and so do its subscriptions and what is left in its inbox."""


class Yield(msgspec.Struct, frozen=True):
    """The holder lets the run go until `due_at` (Unix seconds, the database's clock), or until it is told something.

    Infinity: until it is told something. It is due at once where it was told something that it has not read.
    """

    due_at: float


Then = Keep | Finish | Yield


class RunAppend(msgspec.Struct, frozen=True):
    """Events of one run that belong into one commit, and what becomes of the run then.

    Args:
        version: the version of the run after these events.
        status: the run's status from now on.
        error: why it failed or was parked, for lists.
        inbox: the last row of the inbox that these events and those before them answer; rows up to it are deleted.
        effects: what belongs into the same commit.
    """

    id: UUID
    token: int
    version: int
    status: Status
    events: tuple[NewEvent, ...]
    then: Then
    error: str | None = None
    inbox: int = 0
    effects: tuple[Effect, ...] = ()


class Routing(msgspec.Struct, frozen=True):
    """What came of a delivery's (or a replay's) work item: one event on the delivery's stream, and its runs.

    Args:
        arrivals: what runs may wait for in it. They are in the log already (`events.waits.note`); the runs that are
            subscribed to one of them get a row `event.arrived` into their inbox, in the same commit.
        requests: what it asks lanes for, each lane once.
    """

    id: UUID
    token: int
    delivery_id: UUID
    workspace_id: int
    type: Literal["delivery.routed", "delivery.parked"]
    body: bytes
    runs: tuple[NewRun, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    requests: tuple[StartRequest, ...] = ()
