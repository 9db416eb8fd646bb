"""Connections on which a test says exactly what it wants, deliveries beside them, and what a process holds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

from ingest.signing import sign
from tests.system import SECRET, Process, System

MB = 1 << 20


def head(*more: str, path: str = "/in/hub", method: str = "POST") -> bytes:
    """A request's line and headers."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: ingest", *more, "", ""]).encode()


def signed_head(body: bytes, id: str, length: int | None = None) -> bytes:
    """Those of a webhook that is let in."""
    fields = [f"{name}: {value}" for name, value in sign("github", SECRET, "push", id, body, time.time())]
    return head(f"Content-Length: {len(body) if length is None else length}", *fields)


class Wire:
    """A connection on which a test says exactly what it wants."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def to(cls, system: System) -> Wire:
        host, _, port = system.url.removeprefix("http://").rpartition(":")
        connection = socket.socket()
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
        return cls(connection)

    async def say(self, data: bytes) -> bool:
        """Whether it could all be sent."""
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError:
            return False
        return True

    async def hears(self, until: bytes | None = None) -> bytes:
        """All that comes until the other side ends, or until this was heard."""
        heard = b""
        while until is None or until not in heard:
            try:
                data = await self._loop.sock_recv(self._socket, 1 << 16)
            except OSError:
                break
            if not data:
                break
            heard += data
        return heard

    async def status(self) -> int:
        """Of the next answer; 0 when there is none."""
        line = (await self.hears(b"\r\n")).split(b" ")
        return int(line[1]) if len(line) > 1 else 0

    def close(self) -> None:
        self._socket.close()


@contextlib.asynccontextmanager
async def wire(system: System) -> AsyncIterator[Wire]:
    made = await Wire.to(system)
    try:
        yield made
    finally:
        made.close()


async def conversation(system: System, *said: bytes) -> bytes:
    """All that one connection is answered until the other side ends it."""
    async with wire(system) as line:
        for data in said:
            if not await line.say(data):
                break
        return await line.hears()


def memory(process: Process, line: str) -> int:
    """Bytes, from /proc: VmRSS is what it holds now, VmHWM the most it held since `forget_peak`."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(row.split()[1]) for row in status.splitlines() if row.startswith(line)) << 10


def forget_peak(process: Process) -> int:
    """What it holds now."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return memory(process, "VmRSS")


class Bystanders:
    """Deliveries of the usual kind that go on all the while; each has to be accepted at its first try."""

    def __init__(self, system: System, count: int = 3) -> None:
        self.ids: list[UUID] = []
        self._ending = False
        self._tasks = [asyncio.create_task(self._deliver(system, number)) for number in range(count)]

    async def _deliver(self, system: System, sender: int) -> None:
        while not self._ending:
            self.ids.append(await system.deliver(b"x" * 8000, id=f"bystander-{sender}-{len(self.ids)}"))

    async def until(self, more: int) -> None:
        """Waits until so many more were accepted."""
        goal = len(self.ids) + more
        while len(self.ids) < goal:
            assert not any(task.done() for task in self._tasks), [
                task.exception() for task in self._tasks if task.done()
            ]
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        self._ending = True
        await asyncio.gather(*self._tasks)


async def stored(system: System) -> int:
    return await system.count("SELECT count(*) FROM event WHERE type = 'delivery.received'")
