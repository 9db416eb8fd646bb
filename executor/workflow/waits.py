"""What a node can wait for. A wait is part of the node's fact and of the run's state: it holds plain values only."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

OnTimeout = Literal["fail", "complete"]
"""What a wait that comes to its end without an answer does to its node. Completed so, its output is
`{"timed_out": true}`."""


class ForTime(msgspec.Struct, frozen=True, tag="timer"):
    """`wait.timer`: until the time has come."""


class ForEvent(msgspec.Struct, frozen=True, tag="event", omit_defaults=True):
    """`wait.event`: a delivery of `source` with a type that `glob` fits and whose value of the workflow's
    event-side expression (by its 16-byte hash) equals `key` (16 bytes, the hash of the run's own value).

    `since`: Unix seconds; deliveries that came at or after it count, also those from before the wait began.
    """

    source: str
    glob: str
    expression: bytes
    key: bytes
    since: float
    on_timeout: OnTimeout = "fail"


class ForApproval(msgspec.Struct, frozen=True, tag="approval", omit_defaults=True):
    """`wait.approval`: a person's decision. `text` tells what is to be decided."""

    text: str = ""
    on_timeout: OnTimeout = "fail"


class ForChild(msgspec.Struct, frozen=True, tag="child"):
    """`workflow.run`: another run's end."""

    run_id: UUID
    workflow: str


Wait = ForTime | ForEvent | ForApproval | ForChild
