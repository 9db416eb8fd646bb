"""The log as the checker reads it: plain SQL over a connection of its own, and none of the code that wrote it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import zstandard

_EVENTS = """
SELECT stream_id, version, type, extract(epoch FROM recorded_at)::float8, codec, body FROM event
ORDER BY stream_id, version
"""
_RUNS = "SELECT id, workflow, status, version, delivery_id, lane, parent, fork_of, replay_of FROM run"
_RAW, _ZSTD = 0, 1


class Row(msgspec.Struct, frozen=True):
    """An event. `at`: Unix seconds by PostgreSQL's clock, which is this machine's."""

    stream: UUID
    version: int
    type: str
    at: float
    body: dict[str, Any]


class Head(msgspec.Struct, frozen=True):
    """A run's row. `derived`: another run, or a person, started it, and not a delivery alone.
    `lane`: what its workflow's `key` shares.
    """

    workflow: str
    status: str
    version: int
    delivery_id: UUID | None
    derived: bool = False
    lane: UUID | None = None


class Log(msgspec.Struct, frozen=True):
    """`events` in the order of stream and version; `runs` by id; `work`: work items that are left."""

    events: tuple[Row, ...]
    runs: dict[UUID, Head]
    work: int


async def read(url: str) -> Log:
    """All of it, as of one moment."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            events = await connection.fetch(_EVENTS)
            runs = await connection.fetch(_RUNS)
            work = await connection.fetchval("SELECT count(*) FROM work_item")
    finally:
        await connection.close()
    return Log(
        events=tuple(Row(id, version, type, at, _body(codec, body)) for id, version, type, at, codec, body in events),
        runs={
            id: Head(workflow, status, version, delivery, any(others), lane)
            for id, workflow, status, version, delivery, lane, *others in runs
        },
        work=work,
    )


def _body(codec: int, kept: bytes | None) -> dict[str, Any]:
    """The JSON object; empty for anything else that a body may be."""
    if codec == _ZSTD:
        kept = zstandard.ZstdDecompressor().decompress(kept or b"")
    elif codec != _RAW:
        raise ValueError(f"expected codec {_RAW} or {_ZSTD}, got {codec}")
    try:
        found = json.loads(kept or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
