"""What others have to say to a run: the rows of its inbox, typed, and how they are written.

A signal changes nothing by itself. The run's holder reads it, decides what it comes to, and notes that in the log.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from events.errors import HeadraceError


class Cancel(msgspec.Struct, frozen=True, omit_defaults=True):
    """End the run; what it did is undone."""

    by: str
    reason: str | None = None


class Pause(msgspec.Struct, frozen=True, omit_defaults=True):
    """Start no further node."""

    by: str
    reason: str | None = None


class Resume(msgspec.Struct, frozen=True):
    """Go on after a pause."""

    by: str


class Retry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Go on although the run has ended: with `node`, as if it and all behind it had never been tried; without, with
    whatever failed.
    """

    by: str
    node: str | None = None


class Decide(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person's decision for a `wait.approval`; `data` is theirs to say."""

    node: str
    approved: bool
    by: str
    data: Any = None


class Arrived(msgspec.Struct, frozen=True):
    """A delivery came that a `wait.event` may be waiting for."""

    node: str
    delivery_id: UUID


class ChildEnded(msgspec.Struct, frozen=True, omit_defaults=True):
    """The run that a `workflow.run` waits for has ended. `status`: completed, failed, cancelled or parked."""

    node: str
    run_id: UUID
    status: str
    output: Any = None
    error: str | None = None


Signal = Cancel | Pause | Resume | Retry | Decide | Arrived | ChildEnded

_TYPES: dict[str, type[msgspec.Struct]] = {
    "cancel": Cancel,
    "pause": Pause,
    "resume": Resume,
    "retry": Retry,
    "decide": Decide,
    "event.arrived": Arrived,
    "child.ended": ChildEnded,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_DECODERS = {name: msgspec.json.Decoder(kind) for name, kind in _TYPES.items()}


def encode(signal: Signal) -> tuple[str, bytes]:
    """(type, body) for the inbox."""
    return _NAMES[type(signal)], msgspec.json.encode(signal)


def decode(type: str, body: bytes) -> Signal:
    """A signal from the inbox.

    Raises:
        HeadraceError: it is not known here: a newer version wrote it.
    """
    decoder = _DECODERS.get(type)
    if decoder is None:
        raise HeadraceError(f"expected one of {', '.join(_TYPES)}, got {type!r}; a newer Headrace wrote it")
    try:
        return decoder.decode(body)  # type: ignore[return-value]  # the table pairs each name with its Struct
    except msgspec.ValidationError as error:
        raise HeadraceError(f"signal {type}: {error}; a newer Headrace wrote it: upgrade this one") from error
