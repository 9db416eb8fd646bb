"""Senders that mean harm, or are many, or broken: memory stays bounded, the others are served, nothing is half stored.

A real `headrace ingest` and PostgreSQL; the senders are raw sockets of the test's own. No test measures how soon
anything is done, only that it is done, and what it holds meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from events import log
from events.headers import decode_headers
from events.settings import Settings
from ingest.signing import sign
from tests.senders import Senders
from tests.system import SECRET, Process, System, until

pytestmark = pytest.mark.anyio

MB = 1 << 20
OVERHEAD = 4 * 25 * MB + 64 * MB
"""What ingest may hold beside its budget for bodies and connections: the copies that the driver makes of the largest
body on its way to PostgreSQL (kept, encoded, buffered, and one that just arrived), and what the allocator does not give
back."""
KB_PER_CONNECTION = 16


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


async def test_a_hundred_of_the_largest_bodies_at_once(system: System) -> None:
    system.environment["HEADRACE_BODY_MEMORY"] = "128MB"
    await system.apply()
    ingest = await system.ingest()
    await system.deliver()
    limit = Settings().body_limit
    body = b"".join(
        part * 16 for part in [random.Random(1).randbytes(4096)] * (limit >> 16)
    )  # packs well, as JSON does
    assert len(body) == limit
    heads = [signed_head(body, f"large-{number}") for number in range(100)]
    before = forget_peak(ingest)
    bystanders = Bystanders(system)

    async def post(request: bytes) -> int:
        async with wire(system) as line:
            await line.say(request)
            await line.say(body)
            return await line.status()

    posts = [asyncio.create_task(post(request)) for request in heads]
    await bystanders.until(20)
    statuses = Counter(await asyncio.gather(*posts))
    await bystanders.end()
    grown = memory(ingest, "VmHWM") - before
    print(f"{statuses}, {len(bystanders.ids)} bystanders, grown by {grown / MB:.0f} MB")
    assert set(statuses) <= {202, 503}
    assert statuses[202] > 0
    assert grown < (128 + 32) * MB + OVERHEAD
    assert await stored(system) == 1 + statuses[202] + len(bystanders.ids)
    large = await system.database.fetch("SELECT stream_id FROM event ORDER BY length(body) DESC LIMIT 3")
    for row in large:
        assert (await log.stream(system.database, row[0]))[0].body == body


async def test_large_bodies_that_never_come_keep_nobody_out(system: System) -> None:
    """Each announces 25 MB, which is reserved for it, and sends a little."""
    await system.apply()
    await system.ingest()
    await system.deliver()
    async with contextlib.AsyncExitStack() as stack:
        for number in range(20):
            line = await stack.enter_async_context(wire(system))
            await line.say(signed_head(b"", f"liar-{number}", length=25 * MB) + b"x" * 1000)
        bystanders = Bystanders(system)
        await bystanders.until(20)
        body = b"y" * MB
        async with wire(system) as line:  # waits until the liars are late
            await line.say(signed_head(body, "honest") + body)
            assert await line.status() == 202
        await bystanders.end()


async def test_two_hundred_slow_senders(system: System) -> None:
    system.environment["HEADRACE_BODY_TIMEOUT"] = "3s"
    await system.apply()
    ingest = await system.ingest()
    await system.deliver()
    before = forget_peak(ingest)
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(wire(system)) for _ in range(200)]
        for number, line in enumerate(lines):
            await line.say(signed_head(b"", f"slow-{number}", length=50_000 if number % 2 else 5 * MB))
        answers = asyncio.gather(*[line.status() for line in lines])
        served = 0
        while not answers.done():
            for line in lines:
                await line.say(b"x")  # fails once it was answered
            await system.deliver(b"x" * 8000)
            served += 1
        assert served > 2
        assert set(await answers) <= {408, 503}
        assert 408 in await answers
    assert memory(ingest, "VmHWM") - before < 64 * MB
    assert await stored(system) == 1 + served


@contextlib.contextmanager
def many_files() -> Iterator[int]:
    """As many open files as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield min(hard, 1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_ten_thousand_idle_connections(system: System, record_property: Callable[[str, object], None]) -> None:
    with many_files() as files:
        count = min(10_000, files - 600)  # ingest, a process of its own, has the same limit
        if count < 10_000:
            print(f"only {count} connections: the limit of open files is {files}")
        record_property("connections", count)
        system.environment |= {"HEADRACE_CONNECTIONS": str(count), "HEADRACE_HEADER_TIMEOUT": "20s"}
        await system.apply()
        ingest = await system.ingest()
        await system.deliver()
        before = forget_peak(ingest)
        host, _, port = system.url.removeprefix("http://").rpartition(":")
        idle: list[socket.socket] = []
        try:
            for number in range(count):
                idle.append(
                    await asyncio.to_thread(socket.create_connection, (host, int(port)))
                    if number % 500 == 0
                    else socket.create_connection((host, int(port)))
                )
                if number % 2:
                    idle[-1].send(b"POST /in/hub HTTP/1.1\r\nX-Half")
            bystanders = Bystanders(system)
            await bystanders.until(50)
            grown = memory(ingest, "VmHWM") - before
            print(f"{count} idle connections: grown by {grown / MB:.0f} MB, {grown / count / 1024:.1f} KB each")
            assert grown < count * KB_PER_CONNECTION * 1024
            for connection in idle:
                connection.setblocking(False)

            def closed() -> int:
                return sum(_is_closed(connection) for connection in idle)

            assert 0 < closed() < 100, "the longest idle ones made place for those who deliver"
            assert _is_closed(idle[0])

            async def all_closed() -> bool:
                return closed() == count

            await until(all_closed, "nobody is idle for ever")
            await bystanders.end()
        finally:
            for connection in idle:
                connection.close()


def _is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


async def test_when_all_are_busy_the_new_one_goes(system: System) -> None:
    system.environment["HEADRACE_CONNECTIONS"] = "8"
    await system.apply()
    await system.ingest()
    async with contextlib.AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(wire(system)) for _ in range(8)]
        for number, line in enumerate(busy):
            await line.say(signed_head(b"{}", f"busy-{number}"))
            await line.say(b"{")

        async def refused() -> bool:  # once all eight were read
            async with wire(system) as line:
                await line.say(head(path="/health/live", method="GET"))
                return await line.status() == 0

        await until(refused, "a ninth connection is closed")
        for line in busy:
            await line.say(b"}")
            assert await line.status() == 202
        await system.deliver()


async def test_headers_have_an_end(system: System) -> None:
    await system.apply()
    ingest = await system.ingest()
    before = forget_peak(ingest)

    async def endless(*said: bytes) -> bytes:
        async with wire(system) as line:
            hearing = asyncio.create_task(line.hears())
            for data in said:
                if not await line.say(data):
                    break
            return await hearing

    start = b"POST /in/hub HTTP/1.1\r\nHost: x\r\n"
    for said in (
        (start, b"X-Long: ", *[b"a" * 1000] * 2000),
        (start, *[b"X-A: b\r\n" * 100] * 1000),
        (b"POST /in/", *[b"a" * 1000] * 2000),
        (start, b"X-Long: " + b"a" * 65_536 + b"\r\n\r\n"),
        (start, b"a:\r\n" * 201 + b"\r\n"),
        (start, b"a:\r\n" * 60_000 + b"\r\n"),
    ):
        assert (await endless(*said)).startswith(b"HTTP/1.1 431 "), said[1][:20]
    answers = await asyncio.gather(*[endless(start, b"X-Long: ", *[b"a" * 10_000] * 200) for _ in range(100)])
    assert all(answer.startswith(b"HTTP/1.1 431 ") for answer in answers)
    assert memory(ingest, "VmHWM") - before < 64 * MB
    async with wire(system) as line:
        await line.say(
            signed_head(b"{}", "many headers")[:-2] + b"X-Long: " + b"a" * 60_000 + b"\r\n" + b"A: b\r\n" * 150
        )
        await line.say(b"\r\n{}")
        assert await line.status() == 202


async def test_headers_that_do_not_come_in_time(system: System) -> None:
    system.environment["HEADRACE_HEADER_TIMEOUT"] = "1s"
    await system.apply()
    await system.ingest()
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(wire(system)) for _ in range(3)]
        _silent, half, kept = lines
        await half.say(b"POST /in/hub HTTP/1.1\r\nX-Ha")
        await kept.say(signed_head(b"{}", "kept") + b"{}")
        assert await kept.status() == 202
        await asyncio.gather(*[line.hears() for line in lines])  # until the other side ends
    await system.deliver()


async def test_what_is_no_http_is_answered_and_forgotten(system: System) -> None:
    system.environment["HEADRACE_HEADER_TIMEOUT"] = "0.5s"
    await system.apply()
    ingest = await system.ingest()
    chance = random.Random(2)
    delivery = signed_head(b"{}", "before") + b"{}"
    chunked = head("Transfer-Encoding: chunked", "X-Hub-Signature-256: sha256=00")
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET\r\n\r\n",
        b"POST /in/hub HTTP/9.9\r\n\r\n",
        head("Content-Length: x"),
        head("Content-Length: -1"),
        head("Content-Length: 1", "Content-Length: 2"),
        head("Content-Length: 3", "Transfer-Encoding: chunked"),
        head("No colon"),
        head("Bad\x00: header"),
        head("Host: \x01"),
        head(path="*"),
        head(path="http://"),
        head(path="/\xff"),
        head(method="CONNECT", path="x:1"),
        chunked + b"zz\r\n",
        chunked + b"fffffffffffffffff\r\n",
        chunked + b"1\r\nab\r\n",
        chunked + b"1;" + b"x" * 100_000,
        chunked + b"1\r\na\r\n0\r\n" + b"Trailer: x\r\n" * 20_000,
        *[chance.randbytes(chance.randrange(1, 300)) + b"\r\n\r\n" for _ in range(30)],
    ):
        answer = await conversation(system, garbage)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")), (garbage[:40], answer)
        both = await conversation(system, delivery + garbage)
        assert both.startswith(b"HTTP/1.1 202 "), (garbage[:40], both)
    await system.deliver()
    said = ingest.log.read_text()
    assert "Traceback" not in said
    assert len(said.splitlines()) < 60, "garbage does not fill the log"


async def test_the_usual_ways_of_http_still_work(system: System) -> None:
    await system.apply()
    await system.ingest()
    burst = b"".join(signed_head(b"%d" % n, f"burst-{n}") + b"%d" % n for n in range(30))
    async with wire(system) as line:
        await line.say(burst + head("Connection: close", path="/health/live", method="GET"))
        answers = await line.hears()
    assert answers.count(b"HTTP/1.1 202 ") == 30
    assert answers.rindex(b"HTTP/1.1 202 ") < answers.index(b"HTTP/1.1 200 ")

    async with wire(system) as line:
        await line.say(signed_head(b"{}", "expect")[:-2] + b"Expect: 100-continue\r\n\r\n")
        assert await line.hears(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await line.say(b"{}")
        assert await line.status() == 202

    async with wire(system) as line:  # as some clients ask for HTTP/2, on each of their requests
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        await line.say(signed_head(b"{}", "upgrade")[:-2] + upgrade + b"{}")
        assert await line.status() == 202

    fields = [f"{name}: {value}" for name, value in sign("github", SECRET, "push", "chunks", b"abc", time.time())]
    async with wire(system) as line:
        await line.say(
            head("Transfer-Encoding: chunked", *fields) + b"1;x=y\r\na\r\n2\r\nbc\r\n0\r\nX-GitHub-Event: no\r\n\r\n"
        )
        answer = await line.hears(b"}")
    assert answer.startswith(b"HTTP/1.1 202 ")
    received = (await log.stream(system.database, UUID(answer.partition(b'"id":"')[2][:36].decode())))[0]
    assert received.body == b"abc"
    assert [value for name, value in decode_headers(received.headers or b"") if name == "x-github-event"] == ["push"]

    async with wire(system) as line:
        await line.say(signed_head(b"{}", "first line", length=2))
        for byte in (b"{", b"}"):
            await line.say(byte)
        assert await line.status() == 202
    assert await stored(system) == 34


async def test_unknown_sources_cost_nothing(system: System) -> None:
    """No body is read, and the database is asked a few times a second, however many knock."""
    await system.apply()
    ingest = await system.ingest()
    await system.deliver()
    before = forget_peak(ingest)
    asked = (
        "SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0) FROM pg_stat_user_tables WHERE relname = 'config'"
    )
    at_first = await system.count(asked)
    began = time.monotonic()

    async def knock(number: int) -> None:
        async with wire(system) as line:
            await line.say(head(f"Content-Length: {25 * MB}", path=f"/in/nobody-{number}"))
            assert await line.status() == 404  # nothing of the body was sent

    for first in range(0, 2000, 100):
        await asyncio.gather(*[knock(number) for number in range(first, first + 100)])
    seen = await system.count(asked)

    async def counted() -> bool:  # the statistics come late
        return await system.count(asked) > seen

    await until(counted, "the catalogue goes on asking")
    assert await system.count(asked) - at_first < 6 * (time.monotonic() - began) + 20
    assert memory(ingest, "VmHWM") - before < 64 * MB

    body = bytes(10 * MB)
    async with wire(system) as line:  # and if it is sent all the same, it is thrown away
        await line.say(head(f"Content-Length: {len(body)}", path="/in/nobody"))
        await line.say(body)
        assert b" 404 " in await line.hears(b"}")
        await line.say(signed_head(b"{}", "after") + b"{}")
        assert await line.status() == 202
    assert memory(ingest, "VmHWM") - before < 64 * MB


async def test_who_does_not_read_its_answers_is_hung_up_on(system: System) -> None:
    system.environment["HEADRACE_HEADER_TIMEOUT"] = "1s"
    await system.apply()
    ingest = await system.ingest()
    before = forget_peak(ingest)
    request = head(path="/in/nobody", method="GET")
    async with wire(system) as line:
        line._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while await line.say(request * 50):  # until the other side ends
            pass
    assert memory(ingest, "VmHWM") - before < 64 * MB
    await system.deliver()


async def test_sigterm_under_load_loses_nothing_that_was_acknowledged(system: System) -> None:
    chance = random.Random(3)
    await system.apply()
    ingest = await system.ingest()
    port = int(system.url.rpartition(":")[2])
    senders = Senders(system, count=8)
    for _ in range(5):
        await senders.until(len(senders.acknowledged) + chance.randrange(1, 60))
        ingest.send(signal.SIGTERM)
        await ingest.ends()
        ingest = await system.ingest(port=port)
    await senders.end()
    assert senders.given_up == 0
    rows = await system.database.fetch("SELECT stream_id FROM event WHERE type = 'delivery.received'")
    assert {row[0] for row in rows} == set(senders.acknowledged), "and nothing twice"


async def test_sigterm_waits_for_a_body_that_comes_and_not_for_one_that_does_not(system: System) -> None:
    await system.apply()
    ingest = await system.ingest()
    async with wire(system) as coming, wire(system) as stuck, wire(system) as idle:
        for line, id in ((coming, "coming"), (stuck, "stuck")):
            await line.say(signed_head(b"{}", id) + b"{")
        await idle.say(head(path="/health/live", method="GET"))
        assert await idle.status() == 200
        ingest.send(signal.SIGTERM)
        await idle.hears()  # until the other side ends: it has seen the signal
        await coming.say(b"}")
        assert await coming.status() == 202
        assert await stuck.status() == 503
        await ingest.ends()
    assert "Traceback" not in ingest.log.read_text()
    assert await stored(system) == 1
