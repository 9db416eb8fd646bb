"""What an append brings along besides events, in the same statement and under the same fence."""

from __future__ import annotations

from uuid import UUID

import msgspec


class NewRun(msgspec.Struct, frozen=True):
    """A run to be created. `leased`: it starts in this process at once, with token 1.

    `delivery_id`: None where the routing that creates it says so. `parent`: the run that started it.
    """

    id: UUID
    workflow: str
    workflow_hash: bytes
    queue: str
    started: bytes
    leased: bool
    replay_of: UUID | None = None
    delivery_id: UUID | None = None
    parent: UUID | None = None
    fork_of: UUID | None = None


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What asks a lane for a run: by which delivery, of which version, in which queue.

    `item`: the routing's work item, from which the run's id is derived. `key`: what the lane is told apart by, for
    people. `size`: bytes of the delivery's body.
    """

    lane_id: UUID
    workspace_id: int
    workflow: str
    key: str | None
    workflow_hash: bytes
    queue: str
    delivery_id: UUID
    item: UUID
    replay_of: UUID | None
    size: int
    traceparent: str | None


class StartRun(msgspec.Struct, frozen=True):
    """Creates a run, whose parent is the run that is appended to."""

    run: NewRun


class Tell(msgspec.Struct, frozen=True):
    """Puts a row into the inbox of another run, if it has not ended."""

    to: UUID
    type: str
    body: bytes


class Wake(msgspec.Struct, frozen=True):
    """Tells a lane that a run of it has ended, if anything waits there."""

    lane: UUID


class Emit(msgspec.Struct, frozen=True):
    """Appends a delivery of our own, to be routed. `metadata` is JSON text and holds at least source and event_type."""

    id: UUID
    source: str
    type: str
    metadata: str
    body: bytes


class Subscribe(msgspec.Struct, frozen=True):
    """A node waits for a delivery of `source` whose value of an expression has this key (16 bytes each)."""

    node: str
    source: str
    expression: bytes
    key: bytes
    until: float | None


class Unsubscribe(msgspec.Struct, frozen=True):
    """The node does not wait any more."""

    node: str


class Arrival(msgspec.Struct, frozen=True):
    """What a delivery is found by: the value of an event-side expression has this key (16 bytes each)."""

    source: str
    expression: bytes
    key: bytes


Effect = StartRun | Tell | Wake | Emit | Subscribe | Unsubscribe
