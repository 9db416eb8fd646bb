"""The events of a run, as they stand in the log: one Struct per type, JSON in the event's body.

The type is the log's column and not in the body. A type that this version does not know is an error: a fold that skips
what it cannot read would run nodes again.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from events.errors import HeadraceError


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """The base of all of them."""


class RunStarted(Fact, frozen=True):
    """The first event. `at` is Unix seconds; `traceparent` the trace that the run belongs to."""

    workflow: str
    workflow_hash: str  # hex
    delivery_id: UUID
    at: float
    replay_of: UUID | None = None
    traceparent: str | None = None


class NodeCompleted(Fact, frozen=True):
    """The node is done and is never run again in this run. `seconds`: how long the attempt took."""

    node: str
    attempt: int
    output: Any = None
    seconds: float = 0.0


class NodeFailed(Fact, frozen=True):
    """An attempt failed. With `retry_at` (Unix seconds) it is tried again then; without, the node has failed."""

    node: str
    attempt: int
    kind: str
    message: str
    retry_at: float | None = None
    seconds: float = 0.0


class NodeSkipped(Fact, frozen=True):
    """The node does not run in this run: its condition was false, or what it needs was skipped or failed."""

    node: str
    reason: str


class RunCompleted(Fact, frozen=True):
    """Everything that could run has run, and nothing failed."""


class RunFailed(Fact, frozen=True):
    """A node failed for good, or the run's time was up; nothing more can run."""

    error: str


class RunParked(Fact, frozen=True):
    """Whoever carried the run died too often without progress: it waits for a person."""

    reason: str


RunFact = RunStarted | NodeCompleted | NodeFailed | NodeSkipped | RunCompleted | RunFailed | RunParked

_TYPES: dict[str, type[Fact]] = {
    "run.started": RunStarted,
    "node.completed": NodeCompleted,
    "node.failed": NodeFailed,
    "node.skipped": NodeSkipped,
    "run.completed": RunCompleted,
    "run.failed": RunFailed,
    "run.parked": RunParked,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_DECODERS = {name: msgspec.json.Decoder(kind) for name, kind in _TYPES.items()}
_ENCODER = msgspec.json.Encoder()


def encode(fact: RunFact) -> tuple[str, bytes]:
    """(type, body) for the log."""
    return _NAMES[type(fact)], _ENCODER.encode(fact)


def decode(type: str, body: bytes) -> RunFact:
    """A fact from the log.

    Raises:
        HeadraceError: the type or its shape is not known here: a newer version wrote it.
    """
    decoder = _DECODERS.get(type)
    if decoder is None:
        raise HeadraceError(
            f"expected one of {', '.join(_TYPES)}, got {type!r}; a newer Headrace wrote it: upgrade this one"
        )
    try:
        return decoder.decode(body)  # type: ignore[return-value]  # the table pairs each name with its Struct
    except msgspec.ValidationError as error:
        raise HeadraceError(f"{type}: {error}; a newer Headrace wrote it: upgrade this one") from error
