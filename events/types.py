"""The facts and rows that travel between the log and its users.

`Receipt` is a delivery on its way in; `Event` one fact read back; `WorkItem` a claimed row of the work list. Times are
Unix seconds by the database's clock.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any
from uuid import UUID

import msgspec

QUEUES = ("high_priority", "default", "webhook")
DELIVERY_QUEUE = "webhook"
"""Where new deliveries are routed to workflows."""
REPLAY_QUEUE = "high_priority"
"""A replay has a person waiting for it."""


class Kind(IntEnum):
    """What a work item asks for."""

    DELIVERY = 0  # route a delivery to the workflows that want it
    REPLAY = 1  # route it again
    RUN = 2  # carry a run on
    LANE = 3  # see what of all that waits in a lane may start


class Receipt(msgspec.Struct, frozen=True):
    """One received webhook, ready to be appended.

    Args:
        stream_id: the id the sender is told; a UUIDv7.
        key: 16 bytes; a second delivery with the same (source_id, key) is a duplicate, for ever.
        metadata: JSON text: what was learned on the way in (provider's id and type, method, trace context).
        headers: `name: value` lines joined by CRLF, in their order, repeated ones kept, secrets redacted.
        body: the exact bytes.
        nonce: 16 bytes that may come once per source, whatever the key: for senders that sign a token and not the
            body. A receipt whose nonce came before is a duplicate.
        items: the logical events of a batch, each a receipt of its own with id, key and work. They are appended with
            the batch, in the same statement, or not at all; an item whose key came before is left out alone.
        routed: whether it makes work. False for a batch (its items do) and for an answered handshake.
    """

    stream_id: UUID
    workspace_id: int
    source_id: int
    key: bytes
    metadata: str
    headers: bytes
    body: bytes
    nonce: bytes | None = None
    items: tuple[Receipt, ...] = ()
    routed: bool = True


class Accepted(msgspec.Struct, frozen=True):
    """The receipt is in the log."""

    id: UUID


class Duplicate(msgspec.Struct, frozen=True):
    """The same delivery was appended before, under `first`."""

    first: UUID


Appended = Accepted | Duplicate


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable fact, as read from the log. `body` is a delivery's raw bytes or a run event's JSON."""

    stream_id: UUID
    version: int
    type: str
    recorded_at: float
    source_id: int | None = None
    metadata: dict[str, Any] = {}
    headers: bytes | None = None
    body: bytes | None = None


class WorkItem(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed row of the work list: while `token` is current, its holder alone may write to the stream.

    Args:
        attempt: how often it was claimed without any progress since; 1 is the first.
        receipt: the delivery's first event (of the run's delivery, for a run).
        version: the version of the run when it was claimed; None for a delivery.
        epoch: that of the definitions when it was claimed.
        signal: the seq of the newest row in the run's inbox (of what a lane was told); 0: there was none.
        lane: of a run, the lane that is told of its end.
        workspace_id: whose it is.
        slot: it is a run that takes one of its workspace's places, until it is let go.
    """

    id: UUID
    stream_id: UUID
    kind: Kind
    queue: str
    token: int
    attempt: int
    only_workflow: str | None = None
    error: str | None = None
    receipt: Event | None = None
    version: int | None = None
    epoch: int = 0
    signal: int = 0
    lane: UUID | None = None
    workspace_id: int = 1
    slot: bool = False
