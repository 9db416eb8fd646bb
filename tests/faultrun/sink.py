"""The outside world of a fault run: an HTTP server that notes every call and is slow, refuses or hangs up now and then.

It refuses one idempotency key at most `REFUSALS` times, so that whoever tries again gets through. A call is noted when
its request has come in whole, before anything is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter

import msgspec

SLOWEST = 0.05
"""Seconds that an answer takes at most."""
REFUSED = 0.06
"""The share of calls that get a 500."""
HUNG_UP = 0.02
"""The share of calls that get no answer."""
REFUSALS = 2


class Call(msgspec.Struct, frozen=True):
    """A request as it came. `at`: Unix seconds. `status`: what was answered; 0 for nothing."""

    key: str
    at: float
    status: int


class Sink:
    """The server, as a context manager; `calls` has everything that reached it."""

    def __init__(self, chance: random.Random) -> None:
        self.calls: list[Call] = []
        self.url = ""
        self._chance = chance
        self._refused: Counter[str] = Counter()

    async def __aenter__(self) -> Sink:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_failure: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False to hang up."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        await reader.readexactly(int(headers.get("content-length", "0")))
        key = headers.get("idempotency-key", "")
        status = self._status(key)
        self.calls.append(Call(key, time.time(), status))
        await asyncio.sleep(self._chance.uniform(0, SLOWEST))
        if not status:
            return False
        body = b"{}"
        head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        return True

    def _status(self, key: str) -> int:
        drawn = self._chance.random()
        if drawn >= REFUSED + HUNG_UP or self._refused[key] >= REFUSALS:
            return 200
        self._refused[key] += 1
        return 500 if drawn < REFUSED else 0
