"""Senders that mean harm, or are many, or broken: memory stays bounded, the others are served, nothing is half stored.

A real `headrace ingest` and PostgreSQL; the senders are raw sockets of the test's own. No test measures how soon
anything is done, only that it is done, and what it holds meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from events import log
from events.settings import Settings
from tests.system import System, until
from tests.wires import MB, Bystanders, forget_peak, head, memory, signed_head, stored, wire

pytestmark = pytest.mark.anyio

OVERHEAD = 4 * 25 * MB + 64 * MB
"""What ingest may hold beside its budget for bodies and connections: the copies that the driver makes of the largest
body on its way to PostgreSQL (kept, encoded, buffered, and one that just arrived), and what the allocator does not give
back."""
KB_PER_CONNECTION = 16


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
        for number in range(8):  # five of them fill the share
            line = await stack.enter_async_context(wire(system))
            await line.say(signed_head(b"", f"liar-{number}", length=25 * MB) + b"x" * 1000)
        bystanders = Bystanders(system)
        await bystanders.until(20)
        body = b"y" * (4 * MB)  # more than the liars leave
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


async def test_what_nobody_has_taken_yet_is_bounded(system: System) -> None:
    """Bodies that wait for room have begun to come; too many of them are turned away before they fill the memory."""
    system.environment |= {"HEADRACE_BODY_MEMORY": "64MB", "HEADRACE_BODY_TIMEOUT": "5s"}
    await system.apply()
    ingest = await system.ingest()
    await system.deliver()
    before = forget_peak(ingest)
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(wire(system)) for _ in range(600)]
        begun = b"x" * 256_000
        for number, line in enumerate(lines):
            await line.say(signed_head(b"", f"waiting-{number}", length=25 * MB))
            await line.say(begun)
        bystanders = Bystanders(system)
        await bystanders.until(20)
        statuses = Counter(await asyncio.gather(*[line.status() for line in lines]))
        await bystanders.end()
    assert set(statuses) <= {408, 503}
    assert memory(ingest, "VmHWM") - before < 96 * MB
    said = ingest.log.read_text()
    assert '"unread_bytes"' in said
    assert len(said.splitlines()) < 100
