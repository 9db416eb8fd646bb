"""A closed loop for runs: so many in flight, each started when the one before it has ended, as the caller sees it.

One client for everybody who is compared: HTTP/1.1 over kept connections, with as little work as asyncio's streams
allow. Times are the caller's: from before it sends until it knows that the run has ended.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from tests.bench.stand import percentile

PATIENCE = 60.0
"""Seconds that one run may take."""
_TELL = """
CREATE FUNCTION tell_end() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_notify('run_ended', NEW.delivery_id::text); RETURN NULL; END $$;
CREATE TRIGGER tell_end AFTER UPDATE ON run FOR EACH ROW WHEN (NEW.ended_at IS NOT NULL) EXECUTE FUNCTION tell_end();
"""


class Done(msgspec.Struct):
    """What a closed loop came to; `calls` are (name, began, seconds)."""

    calls: list[tuple[str, float, float]]
    seconds: float

    @property
    def rps(self) -> float:
        """Runs ended a second."""
        return len(self.calls) / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds from start to end that this share of the runs took at most."""
        return percentile([seconds for _, _, seconds in self.calls], share)


class Connection:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connects to a port of this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, path: str, headers: str, body: bytes) -> bytes:
        """The answer's body. `headers` end with CRLF each."""
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 202")):
            raise SystemExit(f"{path}: expected 200 or 202, got {answer[:200]!r}")
        for line in answer.lower().split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"content-length":
                return await self._reader.readexactly(int(value))
        raise SystemExit(f"{path}: expected an answer with content-length, got {answer[:200]!r}")

    def close(self) -> None:
        """Hangs up."""
        self._writer.close()


class Ends:
    """Learns from PostgreSQL, after their commit, of runs that have ended."""

    def __init__(self) -> None:
        self._ended: dict[str, asyncio.Future[None]] = {}

    async def of(self, delivery: str) -> None:
        """Returns when the delivery's run has ended, or has already."""
        async with asyncio.timeout(PATIENCE):
            await self._future(delivery)
        del self._ended[delivery]

    def told(self, _connection: object, _pid: int, _channel: str, delivery: object) -> None:
        """One notification."""
        future = self._future(str(delivery))
        if not future.done():
            future.set_result(None)

    def _future(self, delivery: str) -> asyncio.Future[None]:
        return self._ended.setdefault(delivery, asyncio.get_running_loop().create_future())


@asynccontextmanager
async def ends(database_url: str) -> AsyncIterator[Ends]:
    """Has the database tell of every run that ends. That is work which is counted against us."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(_TELL)
    made = Ends()
    await connection.add_listener("run_ended", made.told)
    try:
        yield made
    finally:
        await connection.close()


async def closed(
    port: int, in_flight: int, count: int, call: Callable[[Connection, int], Awaitable[str]], warm: int
) -> Done:
    """`count` runs, `in_flight` at a time, after `warm` more that do not count.

    Args:
        call: one run, over a connection and with a number of its own, until it has ended; answers its name.
    """
    connections = [await Connection.open(port) for _ in range(in_flight)]
    numbers = itertools.count(time.time_ns())

    async def rounds(total: int) -> Done:
        left = iter(range(total))
        calls: list[tuple[str, float, float]] = []

        async def keep_going(connection: Connection) -> None:
            for _ in left:
                began, at = time.time(), time.perf_counter()
                name = await call(connection, next(numbers))
                calls.append((name, began, time.perf_counter() - at))

        at = time.perf_counter()
        await asyncio.gather(*[keep_going(connection) for connection in connections])
        return Done(calls, time.perf_counter() - at)

    try:
        await rounds(warm)
        return await rounds(count)
    finally:
        for connection in connections:
            connection.close()
