"""`llm.chat` with `stream: true`, against a server that sends events when it likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from executor import Endpoint, NodeContext
from executor.engine.node import execute
from executor.engine.outbound import OutboundClient
from executor.engine.processes import KillablePool
from executor.engine.registry import Registry
from executor.workflow.outcomes import Completed, Deferred, Failed, Outcome

pytestmark = pytest.mark.anyio
KEY = b"sk-a-key-that-nobody-sees"
LLM = Registry.load()["llm.chat"]
USAGE = {"prompt_tokens": 1000, "completion_tokens": 500}


class Sending:
    """The server's side of one answer, in chunks of HTTP."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def head(self, status: int = 200, kind: str = "text/event-stream; charset=utf-8", **more: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", "transfer-encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        await self._writer.drain()

    async def raw(self, data: bytes) -> None:
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self._writer.drain()

    async def event(self, value: Any) -> None:
        await self.raw(b"data: " + (value if isinstance(value, bytes) else msgspec.json.encode(value)) + b"\n\n")

    async def delta(self, finish: str | None = None, **delta: Any) -> None:
        await self.event({"model": "m-2024", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    async def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()


Script = Callable[[Sending], Awaitable[None]]


class Model:
    """What the tests see of the server: `script` says what it does, `asked` what it was asked."""

    def __init__(self, client: OutboundClient) -> None:
        self.script: Script = Sending.end
        self.asked: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self.port = 0
        self._client = client

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].split()[0])
            self.asked.append(msgspec.json.decode(await reader.readexactly(length)))
            await self.script(Sending(writer))
        except ConnectionError:
            pass
        finally:
            self.gone.set()
            writer.close()

    async def ask(self, timeout: float = 60.0, **inputs: Any) -> Outcome:
        async def endpoint(name: str, workspace_id: int) -> Endpoint:
            return Endpoint(f"http://127.0.0.1:{self.port}/v1", KEY)

        context = NodeContext(UUID(int=7), "w", "ask", 1, 0.0, None, self._client, endpoint)
        given = {"endpoint": "llm", "model": "m", "prompt": "hi", "stream": True} | inputs
        return await execute(LLM, context, given, timeout, KillablePool(1))


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    client = OutboundClient(["127.0.0.0/8"])
    model = Model(client)
    async with await asyncio.start_server(model.serve, "127.0.0.1", 0) as listening:
        model.port = listening.sockets[0].getsockname()[1]
        yield model
        await client.aclose()
        listening.close()


async def test_a_streamed_answer_is_joined(model: Model) -> None:
    async def script(to: Sending) -> None:
        await to.head()
        await to.delta(role="assistant", content="")
        await to.raw(b": a heartbeat\n\n")
        for text in ("he", "llo ", "wörld"):
            await to.delta(content=text)
        whole = msgspec.json.encode({"choices": [{"index": 1, "delta": {"content": "another choice"}}]})
        for byte in b"data: " + whole + b"\r\n\r\n":  # slowly
            await to.raw(bytes([byte]))
        call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}
        await to.delta(tool_calls=[call])
        await to.delta(tool_calls=[{"index": 1, "id": "c2", "function": {"name": "see", "arguments": "{}"}}])
        await to.delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}])
        await to.delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}], refusal=None)
        await to.delta("tool_calls")
        await to.event({"model": "m-2024", "choices": [], "usage": USAGE})
        await to.event(b"[DONE]")
        await to.end()

    model.script = script
    outcome = await model.ask(price={"input": 2, "output": 8})
    assert isinstance(outcome, Completed), outcome
    calls = [
        {"type": "function", "id": "c1", "function": {"name": "look", "arguments": '{"a":1}'}},
        {"type": "function", "id": "c2", "function": {"name": "see", "arguments": "{}"}},
    ]
    assert outcome.output == {
        "text": "hello wörld",
        "message": {"content": "hello wörld", "role": "assistant", "tool_calls": calls},
        "tool_calls": calls,
        "finish_reason": "tool_calls",
        "usage": {"input_tokens": 1000, "output_tokens": 500},
        "model": "m-2024",
        "cost": 0.006,
    }
    (asked,) = model.asked
    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})


async def cut(to: Sending) -> None:
    await to.head()
    await to.delta(content="hel")


async def cut_and_ended(to: Sending) -> None:
    await cut(to)
    await to.end()


async def an_error(to: Sending) -> None:
    await cut(to)
    await to.event({"error": {"message": f"overloaded, your key is {KEY.decode()}", "code": "server_error"}})


async def a_quota(to: Sending) -> None:
    await to.head()
    await to.event({"error": {"code": "insufficient_quota"}})


async def nonsense(to: Sending) -> None:
    await to.head()
    await to.event(b"<html>" + KEY)


async def too_many_calls(to: Sending) -> None:
    await to.head()
    await to.delta(tool_calls=[{"index": 128}])


async def an_endless_line(to: Sending) -> None:
    await to.head()
    while True:
        await to.raw(b"x" * 65_536)


async def endless_events(to: Sending) -> None:
    await to.head()
    while True:
        await to.raw(b": heartbeat\n\n" * 10_000)


async def refused(to: Sending) -> None:
    await to.head(401, "application/json")
    await to.raw(b"wrong key: " + KEY)
    await to.end()


async def busy(to: Sending) -> None:
    await to.head(503)
    await to.end()


@pytest.mark.parametrize(
    ("script", "kind", "again"),
    [
        (cut, "connection", True),
        (cut_and_ended, "connection", True),
        (an_error, "stream", True),
        (a_quota, "quota", False),
        (nonsense, "answer", False),
        (too_many_calls, "answer", False),
        (an_endless_line, "answer", False),
        (endless_events, "error", False),
        (refused, "http_4xx", False),
        (busy, "http_5xx", True),
    ],
)
async def test_what_goes_wrong_has_its_kind_and_shows_no_key(
    model: Model, script: Script, kind: str, again: bool
) -> None:
    model.script = script
    outcome = await model.ask()
    assert isinstance(outcome, Failed), outcome
    assert outcome.kind == kind, outcome
    assert KEY.decode() not in outcome.message
    assert LLM.retry is not None
    assert (kind in LLM.retry.on) is again
    await asyncio.wait_for(model.gone.wait(), 30.0)


async def test_a_429_with_a_wait_is_a_deferral(model: Model) -> None:
    async def script(to: Sending) -> None:
        await to.head(429, "application/json", retry_after="17")
        await to.end()

    model.script = script
    outcome = await model.ask()
    assert isinstance(outcome, Deferred), outcome
    assert outcome.seconds == 17


async def test_a_model_that_falls_silent_is_noticed_and_slow_tokens_are_not_silence(model: Model) -> None:
    silent = asyncio.Event()

    async def script(to: Sending) -> None:
        await to.head()
        for _ in range(12):  # longer than `idle` in all
            await to.delta(content="x")
            await asyncio.sleep(0.1)
        silent.set()
        await asyncio.Event().wait()

    model.script = script
    outcome = await model.ask(idle=1.0)
    assert silent.is_set()
    assert isinstance(outcome, Failed), outcome
    assert outcome.kind == "timeout"


async def test_a_server_that_does_not_stream_is_understood(model: Model) -> None:
    async def script(to: Sending) -> None:
        await to.head(200, "application/json")
        answer = {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}], "usage": USAGE}
        await to.raw(msgspec.json.encode(answer))
        await to.end()

    model.script = script
    outcome = await model.ask()
    assert isinstance(outcome, Completed), outcome
    assert outcome.output["text"] == "whole"


async def test_a_timed_out_call_closes_its_connection(model: Model) -> None:
    async def script(to: Sending) -> None:
        await to.head()
        while True:
            await to.raw(b": heartbeat\n\n")
            await asyncio.sleep(0.01)

    model.script = script
    outcome = await model.ask(timeout=0.3)
    assert isinstance(outcome, Failed), outcome
    assert outcome.kind == "timeout"
    await asyncio.wait_for(model.gone.wait(), 30.0)
