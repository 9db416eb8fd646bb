"""Bodies that were compressed on their way (Content-Encoding), decoded beside the exact bytes, which are what is kept.

Promises: a decoded body has its place in the `Room` for as long as it is used, and is no larger than a body may be; one
that is larger, cannot be decoded, or claims a coding that we do not know stands for itself, as any bytes do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from events.content import decoded
from ingest.room import SMALL, Room
from ingest.verify.base import Incoming

STEP = 1 << 20
"""Bytes that a decoded body gets room for at first."""


class Decoder:
    """Decodes the bodies of one process's requests: the usual one, small, at once; a large one in a thread.

    Args:
        limit: bytes of the largest decoded body.
    """

    def __init__(self, room: Room, limit: int) -> None:
        self._room = room
        self._limit = limit

    @contextlib.asynccontextmanager
    async def _decoded(self, incoming: Incoming) -> AsyncIterator[Incoming]:
        self._room.take(SMALL)
        try:
            plain = plain_of(incoming, SMALL) if len(incoming.body) <= SMALL else incoming
            if plain is not incoming:
                yield plain
                return
        finally:
            self._room.leave_small(SMALL)
        async with self._large(incoming) as plain:
            yield plain

    @contextlib.asynccontextmanager
    async def _large(self, incoming: Incoming) -> AsyncIterator[Incoming]:
        """First within a megabyte, which most fit into, then within the limit."""
        reserved = 0
        try:
            plain = incoming
            for limit in (min(STEP, self._limit), self._limit):
                await self._reserve(limit, incoming)
                reserved = limit
                plain = await asyncio.to_thread(plain_of, incoming, limit)
                used = len(plain.body) if plain is not incoming else 0
                self._room.unreserve(reserved - used)
                reserved = used
                if plain is not incoming:
                    break
            yield plain
        finally:
            self._room.unreserve(reserved)

    async def _reserve(self, size: int, incoming: Incoming) -> None:
        """Whoever holds a large body's room already does not wait: all that do could wait for each other."""
        if len(incoming.body) > SMALL:
            self._room.reserve_now(size)
        else:
            await self._room.reserve(size)

    def decoded(self, incoming: Incoming) -> contextlib.AbstractAsyncContextManager[Incoming]:
        """The request with its body decoded; the very same one where there is nothing to decode.

        Raises:
            Crowded: there is no room for the decoded body now.
        """
        if not _coding(incoming):
            return contextlib.nullcontext(incoming)
        return self._decoded(incoming)


def plain_of(incoming: Incoming, limit: int) -> Incoming:
    """The request with its body decoded; the very same one where there is nothing to decode, or it cannot be.

    Args:
        limit: bytes that the decoded body may have.
    """
    coding = _coding(incoming)
    body = decoded(incoming.body, coding, limit) if coding else None
    return incoming if body is None else msgspec.structs.replace(incoming, body=body)


def _coding(incoming: Incoming) -> str:
    coding = incoming.headers.get(b"content-encoding", b"")
    return "" if coding == b"identity" else coding.decode("latin-1")
