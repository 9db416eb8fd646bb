"""What watchers are told of an event: the small facts in it, without inputs and outputs."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from events.live import LogRow

LONGEST = 500
"""Characters of a text that are told; the event has all of it."""

_NODE = re.compile(rb'\{"node":"((?:[^"\\]|\\.)*)"(?:,"attempt":(\d+))?')


class Brief(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of an event that are small, as `executor.workflow.facts` has them; those that it lacks are left out.

    `at`: when it was written down, Unix seconds. `signal`: what kind of signal was received.
    """

    version: int
    type: str
    at: float
    run: str | None = None
    node: str | None = None
    attempt: int | None = None
    index: int | None = None
    count: int | None = None
    seconds: float | None = None
    kind: str | None = None
    message: str | None = None
    error: str | None = None
    reason: str | None = None
    retry_at: float | None = None
    until: float | None = None
    signal: str | None = None
    by: str | None = None
    note: str | None = None
    workflow: str | None = None
    large: int | None = None


class _Body(msgspec.Struct, frozen=True):
    node: str | None = None
    attempt: int | None = None
    index: int | None = None
    count: int | None = None
    seconds: float | None = None
    kind: str | None = None
    message: str | None = None
    error: str | None = None
    reason: str | None = None
    retry_at: float | None = None
    until: float | None = None
    signal: str | None = msgspec.field(default=None, name="type")
    by: str | None = None
    note: str | None = None
    workflow: str | None = None
    large: int | None = None


_NOTHING = _Body()
_DECODER = msgspec.json.Decoder(_Body)
_ENCODER = msgspec.json.Encoder()


def brief(row: LogRow, *, with_run: bool) -> msgspec.Raw:
    """The JSON of an event's `Brief`. What a newer version wrote, and cannot be read here, is told without details."""
    body = _body(row)
    facts: dict[str, Any] = {
        name: value[:LONGEST] if isinstance(value, str) and name != "node" else value
        for name in _Body.__struct_fields__
        if (value := getattr(body, name)) is not None
    }
    run = str(row.run_id) if with_run else None
    return msgspec.Raw(_ENCODER.encode(Brief(row.version, row.type, round(row.recorded_at, 3), run, **facts)))


def _body(row: LogRow) -> _Body:
    try:
        if row.whole:
            return _DECODER.decode(row.body)
        if found := _NODE.match(row.body):  # the output makes it long, and comes after both
            node, attempt = found.groups()
            return _Body(node=msgspec.json.decode(b'"%b"' % node, type=str), attempt=int(attempt) if attempt else None)
    except msgspec.DecodeError:
        pass
    return _NOTHING
