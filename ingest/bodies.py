"""Reading bodies: exactly as they came, within bounds of size, memory and time, whatever a sender does.

What it promises:
- A body in memory has its place in the `Room`, from its first piece until the caller gives it back.
- A large body is not read on before there is room for all of it; the server's flow control stops its sender meanwhile.
- A sender has `timeout` seconds, and one more for every 100 KB that came; while others wait for room, a large body has
  `HURRY` seconds and one for every 1 MB. Then it is `Slow`, and its place is another's.
- A sender of too much is listened to for a moment before it is refused, so that it gets to read why. (Who is `Crowded`
  need not be: the answer lets its connection live, and the server throws away what still comes.)
- A body is joined once; its memory is never held twice.

The usual body is one message that is here already, and costs nothing but its place. What has to be waited for costs no
timer either: one look a second finds those who are late.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ingest.begun import Begun, at_hand
from ingest.room import SMALL, Room

LINGER = 1.0
"""Seconds that a sender who was refused is listened to before it is answered and hung up on."""
LINGER_BYTES = 32 << 20
"""Bytes that are thrown away meanwhile, at most."""
PACE = 100_000
"""Bytes that earn a sender another second."""
HURRY = 5.0
"""Seconds for a large body while others wait for room."""
HURRY_PACE = 1_000_000
"""Bytes that earn it another second then."""
LOOK = 1.0
"""Seconds between two looks for senders who are late."""

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]


class TooLarge(Exception):
    """More bytes came, or are announced, than the limit allows. A 413."""


class Slow(Exception):
    """The body did not come in time. A 408; the connection is of no more use."""


class Gone(Exception):
    """The sender went away before its body was complete. There is nobody to answer."""


class _Reading:
    """A body that is being read."""

    __slots__ = ("late", "more", "received", "reserved", "since")

    def __init__(self, since: float) -> None:
        self.since = since  # infinite while it waits for room: its sender is not to blame
        self.received = 0
        self.reserved = 0
        self.more = True
        self.late = False


class Bodies:
    """Reads the bodies of one process's requests.

    Args:
        limit: the largest body in bytes.
        timeout: seconds for a body, before what its bytes earn.
        clock: monotonic seconds.
    """

    def __init__(self, room: Room, *, limit: int, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.room = room
        self.limit = limit
        self._timeout = timeout
        self._clock = clock
        self._reading: dict[asyncio.Task[Any], _Reading] = {}
        self._looking: asyncio.TimerHandle | None = None

    async def read(self, receive: Receive, content_length: bytes | None) -> bytes:
        """The whole body of the request that the current task answers. Its place in the room is the caller's, who gives
        it back with `room.leave(len(body))` when the answer is sent.

        Args:
            receive: ASGI's.
            content_length: the header's value; None: unknown, as in a chunked body.

        Raises:
            TooLarge, Slow, Gone, Crowded: see there; nothing is held then.
        """
        announced = 0 if content_length is None else _announced(content_length)
        if announced > self.limit:
            await linger(receive)
            raise TooLarge
        if announced > SMALL:
            return await self._watched(None, announced, receive)
        steps = receive().__await__()
        try:
            step = next(steps)
        except StopIteration as done:  # it was here already, so nobody has to watch
            message = done.value
        else:
            return await self._watched(Begun(steps, step), announced, receive)
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) <= SMALL:
                self.room.take(len(body))
                return body
        return await self._watched(at_hand(message), announced, receive)

    async def _watched(self, first: Awaitable[Message] | None, announced: int, receive: Receive) -> bytes:
        """Reads a body that may take its time. `first`: what gives its first message, where that was asked for."""
        task = asyncio.current_task()
        assert task is not None  # a coroutine that awaits is in one
        reading = self._reading[task] = _Reading(self._clock())
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK, self._look_again)
        try:
            if announced > SMALL:
                await self._reserve(announced, reading)
            return await self._in_pieces(await (first or receive()), receive, reading)
        except TooLarge:
            self._give_back(reading)
            if reading.more:
                reading.since = math.inf  # `linger` has bounds of its own
                await linger(receive)
            raise
        except BaseException as error:
            self._give_back(reading)
            if reading.late and isinstance(error, asyncio.CancelledError) and not task.uncancel():
                raise Slow from None
            raise
        finally:
            del self._reading[task]

    async def _in_pieces(self, message: Message, receive: Receive, reading: _Reading) -> bytes:
        whole = io.BytesIO()  # grows in place, and hands its bytes over without a copy
        while message["type"] == "http.request":
            piece = message.get("body", b"")
            reading.more = message.get("more_body", False)
            if reading.received + len(piece) > self.limit:
                raise TooLarge
            await self._find_room(len(piece), reading)
            whole.write(piece)
            if not reading.more:
                self._settle(reading)
                return whole.getvalue()
            del piece
            message = await receive()
        raise Gone

    async def _find_room(self, size: int, reading: _Reading) -> None:
        """Room for the next piece; `reading.received` counts those that have some."""
        if not reading.reserved:
            self.room.take_piece(size)
        reading.received += size
        if not reading.reserved and reading.received > SMALL:  # of unknown length, unless this was the end
            await self._reserve(self.limit if reading.more else reading.received, reading)
            self.room.leave_pieces(reading.received)

    async def _reserve(self, size: int, reading: _Reading) -> None:
        since, reading.since = reading.since, math.inf
        began = self._clock()
        await self.room.reserve(size)
        reading.since = since + self._clock() - began
        reading.reserved = size

    def _settle(self, reading: _Reading) -> None:
        """From now on the room that is taken is the body's size, as `Room.leave` expects."""
        size, reserved = reading.received, reading.reserved
        if not reserved:
            self.room.complete(size)
        elif size > SMALL:
            self.room.unreserve(reserved - size)
        else:  # less came than was announced, which no real server lets through
            self.room.unreserve(reserved)
            reading.reserved = reading.received = 0
            self.room.take(size)

    def _give_back(self, reading: _Reading) -> None:
        if reading.reserved:
            self.room.unreserve(reading.reserved)
        elif reading.received:
            self.room.leave_pieces(reading.received)

    def _look_again(self) -> None:
        self._looking = None
        if self._reading:
            self._looking = asyncio.get_running_loop().call_later(LOOK, self._look_again)
            self.look()

    def look(self) -> None:
        """Ends the reading of all bodies that are late. Called once a second."""
        now = self._clock()
        for task, reading in list(self._reading.items()):
            if not reading.late and now - reading.since > self._allowed(reading):
                reading.late = True
                task.cancel()

    def _allowed(self, reading: _Reading) -> float:
        allowed = self._timeout + reading.received / PACE
        if reading.reserved and self.room.waiting:
            return min(allowed, HURRY + reading.received / HURRY_PACE)
        return allowed


def _announced(content_length: bytes) -> int:
    """The length that a sender announces, 0 where it does not. Of more than 18 digits, only absurd."""
    if not content_length.isdigit():
        return 0
    return int(content_length) if len(content_length) <= 18 else sys.maxsize


async def linger(receive: Receive) -> None:
    """Throws away what still comes, within bounds: who is hung up on while sending does not get to read why."""
    left = LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while left > 0 and (message := await receive())["type"] == "http.request":
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
