"""The events of a run, as they stand in the log: one Struct per type, JSON in the event's body.

The type is the log's column and not in the body. A type that this version does not know is an error: a fold that skips
what it cannot read would run nodes again. `node` is a path (`executor.workflow.paths`). `seq` names the row of the
inbox that a fact answers; rows up to it are never looked at again. Times are Unix seconds by the database's clock.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from events.errors import HeadraceError
from executor.workflow.outcomes import CacheUse
from executor.workflow.waits import Wait


class Fact(msgspec.Struct, frozen=True, omit_defaults=True):
    """The base of all of them."""


class RunStarted(Fact, frozen=True):
    """The first event. `traceparent`: the trace that the run belongs to.

    `parent` and `parent_node`: the run and the node that wait for this one. `input` is what a child, or a run that was
    asked for, was given. `edited` stands in the place of the delivery's body, if a person re-ran it with another.
    `lane`: whom its end is told (`executor.workflow.lanes`). `deliveries`: those that it is made of, its own the last.
    """

    workflow: str
    workflow_hash: str  # hex
    delivery_id: UUID
    at: float
    replay_of: UUID | None = None
    traceparent: str | None = None
    parent: UUID | None = None
    parent_node: str | None = None
    depth: int = 0
    fork_of: UUID | None = None
    input: Any = None
    edited: Any = msgspec.UNSET
    lane: UUID | None = None
    deliveries: tuple[UUID, ...] = ()


class NodeCompleted(Fact, frozen=True):
    """The node is done and is never run again in this run. `seconds`: how long the attempt took.

    `large`: the bytes of the output's JSON, where it is too large to be kept anywhere but in this event.
    `cache`: where the output is from, if the node has a cache.
    """

    node: str
    attempt: int
    output: Any = None
    seconds: float = 0.0
    large: int = 0
    cache: CacheUse | None = None


class NodeFailed(Fact, frozen=True):
    """An attempt failed. With `retry_at` it is tried again then; without, the node has failed."""

    node: str
    attempt: int
    kind: str
    message: str
    retry_at: float | None = None
    seconds: float = 0.0


class NodeDeferred(Fact, frozen=True):
    """The other side took nothing on: `attempt` is still to be made, at `until`. `count`: how often in a row."""

    node: str
    attempt: int
    reason: str
    until: float
    count: int = 1


class NodeSkipped(Fact, frozen=True):
    """The node does not run in this run: its condition was false, or what it needs was skipped or failed.

    `failed`: a failure is what it goes back to.
    """

    node: str
    reason: str
    failed: bool = False


class NodeWaiting(Fact, frozen=True):
    """The node waits for something outside of this run, until `until` at the longest (None: for ever)."""

    node: str
    attempt: int
    at: float
    wait: Wait
    until: float | None = None


class NodeMapped(Fact, frozen=True):
    """A `map` has `count` items to work on."""

    node: str
    count: int


class ItemEnded(Fact, frozen=True):
    """One item of a `map` is done. With `error` it has failed."""

    node: str
    index: int
    output: Any = None
    error: str | None = None


class SignalReceived(Fact, frozen=True):
    """A row of the inbox was read. What it came to is in the facts after it; `note` says why it came to nothing."""

    seq: int
    type: str
    node: str | None = None
    by: str | None = None
    note: str | None = None


class RunPaused(Fact, frozen=True):
    """No node starts any more until the run is resumed."""

    seq: int
    by: str
    reason: str | None = None


class RunResumed(Fact, frozen=True):
    """The run goes on."""

    seq: int
    by: str


class RunCancelling(Fact, frozen=True):
    """The run was cancelled: nothing starts any more but compensations."""

    seq: int
    by: str
    reason: str | None = None


class RunFailing(Fact, frozen=True):
    """The run will end as failed, or as cancelled: what it did is undone first."""

    error: str


class RunReopened(Fact, frozen=True):
    """A person had an ended run go on: these nodes are as if they had never been tried."""

    seq: int
    by: str
    at: float
    nodes: tuple[str, ...] = ()


class RunCompleted(Fact, frozen=True):
    """Everything that could run has run, and nothing failed that was not handled."""

    output: Any = None


class RunFailed(Fact, frozen=True):
    """A node failed for good, or the run's time was up; nothing more can run."""

    error: str


class RunCancelled(Fact, frozen=True):
    """The run was cancelled and what it did is undone."""

    reason: str


class RunParked(Fact, frozen=True):
    """Whoever carried the run died too often without progress: it waits for a person."""

    reason: str


Ending = RunCompleted | RunFailed | RunCancelled | RunParked
RunFact = (
    RunStarted
    | NodeCompleted
    | NodeFailed
    | NodeDeferred
    | NodeSkipped
    | NodeWaiting
    | NodeMapped
    | ItemEnded
    | SignalReceived
    | RunPaused
    | RunResumed
    | RunCancelling
    | RunFailing
    | RunReopened
    | Ending
)

_TYPES: dict[str, type[Fact]] = {
    "run.started": RunStarted,
    "node.completed": NodeCompleted,
    "node.failed": NodeFailed,
    "node.deferred": NodeDeferred,
    "node.skipped": NodeSkipped,
    "node.waiting": NodeWaiting,
    "node.mapped": NodeMapped,
    "item.ended": ItemEnded,
    "signal.received": SignalReceived,
    "run.paused": RunPaused,
    "run.resumed": RunResumed,
    "run.cancelling": RunCancelling,
    "run.failing": RunFailing,
    "run.reopened": RunReopened,
    "run.completed": RunCompleted,
    "run.failed": RunFailed,
    "run.cancelled": RunCancelled,
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
