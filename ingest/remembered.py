"""The sources as an earlier process knew them, for an ingest that starts while PostgreSQL is away.

Kept in the spool's `memory` under one name: MessagePack of the rows as the database gave them, their secrets sealed as
they are there. What cannot be read any more, because another version wrote it, counts as nothing: without it ingest
answers 503 until PostgreSQL is back, as it does without a spool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from events.definitions import SourceRow

NAME = "sources"


class Memory(Protocol):
    """What remembers, as `Spool` does."""

    async def remember(self, name: str, value: bytes) -> None:
        """Keeps a value durably. Raises Unavailable."""

    def recall(self, name: str) -> bytes | None:
        """The value last kept under this name."""


async def remember_sources(memory: Memory, rows: Sequence[SourceRow]) -> None:
    """Keeps the sources.

    Raises:
        Unavailable: the disk did not take them.
    """
    await memory.remember(NAME, msgspec.msgpack.encode(sorted(rows, key=lambda row: row.id)))


def recall_sources(memory: Memory) -> list[SourceRow]:
    """The sources that were kept last; none when there are none that can be read."""
    kept = memory.recall(NAME)
    try:
        return msgspec.msgpack.decode(kept, type=list[SourceRow]) if kept else []
    except msgspec.MsgspecError:
        return []
