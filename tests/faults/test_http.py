"""What comes over the wire: HTTP as all speak it works; what is none, or has no end, is answered and forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from uuid import UUID

import pytest

from events import log
from events.headers import decode_headers
from ingest.signing import sign
from tests.system import SECRET, System
from tests.wires import MB, conversation, forget_peak, head, memory, signed_head, stored, wire

pytestmark = pytest.mark.anyio


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


async def test_too_many_requests_at_once_on_one_connection(system: System) -> None:
    """Those that came first are answered, in their order; then it is over."""
    await system.apply()
    await system.ingest()
    burst = b"".join(head(path=f"/in/nobody-{number}", method="GET") for number in range(500))
    answers = await conversation(system, burst)
    assert answers.count(b"HTTP/1.1 404 ") == 65
    assert answers.count(b"HTTP/1.1 ") == 65
    await system.deliver()
