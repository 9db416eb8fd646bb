"""`llm.chat` against an HTTP server that speaks the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
from tests.integration.http_server import Answer, Server, http_server

pytestmark = pytest.mark.anyio
KEY = b"sk-a-key-that-nobody-sees"
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def completion(**message: Any) -> bytes:
    return msgspec.json.encode(
        {
            "model": "m-2024",
            "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
        }
    )


class Asking:
    def __init__(self, server: Server, client: OutboundClient) -> None:
        self.server = server
        self.key = KEY
        self._client = client

    async def ask(self, timeout: float = 60.0, **inputs: Any) -> Outcome:
        async def endpoint(name: str, workspace_id: int) -> Endpoint:
            return Endpoint(f"{self.server.url}/v1/?api-version=1", self.key)

        context = NodeContext(UUID(int=7), "w", "ask", 1, 0.0, None, self._client, endpoint)
        given = {"endpoint": "llm", "model": "m", "prompt": "hi"} | inputs
        given = {name: value for name, value in given.items() if value is not None}
        return await execute(Registry.load()["llm.chat"], context, given, timeout, KillablePool(1))


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    client = OutboundClient(["127.0.0.0/8"])
    async with http_server() as server:
        yield Asking(server, client)
        await client.aclose()


async def test_it_asks_as_the_protocol_says_and_counts_what_it_used(asking: Asking) -> None:
    asking.server.answer = lambda asked: Answer(200, {}, completion(content="hello", tool_calls=[CALL]))
    outcome = await asking.ask(
        system="be brief",
        tools=[{"type": "function"}],
        temperature=0.0,
        options={"seed": 1},
        price={"input": 2, "output": 8},
    )
    assert isinstance(outcome, Completed), outcome
    assert outcome.output == {
        "text": "hello",
        "message": {"role": "assistant", "content": "hello", "tool_calls": [CALL]},
        "tool_calls": [CALL],
        "finish_reason": "stop",
        "usage": {"input_tokens": 1000, "output_tokens": 500},
        "model": "m-2024",
        "cost": 0.006,
    }
    (asked,) = asking.server.asked
    assert (asked.method, asked.target) == ("POST", "/v1/chat/completions?api-version=1")
    assert asked.headers["authorization"] == f"Bearer {KEY.decode()}"
    assert msgspec.json.decode(asked.body) == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "tools": [{"type": "function"}],
        "temperature": 0.0,
        "seed": 1,
    }


async def test_a_429_with_a_wait_is_a_deferral(asking: Asking) -> None:
    asking.server.answer = lambda asked: Answer(429, {"Retry-After": "17"}, b"slow down " + KEY)
    outcome = await asking.ask()
    assert isinstance(outcome, Deferred), outcome
    assert outcome.seconds == 17
    assert "slow down [key]" in outcome.reason
    assert KEY.decode() not in outcome.reason


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(429), "http_429"),
        (Answer(429, {"Retry-After": "9"}, b'{"error":{"code":"insufficient_quota"}}'), "quota"),
        (Answer(400, {}, b'{"error":{"code":"context_length_exceeded"}}'), "context_length"),
        (Answer(401, {}, b"wrong key: " + KEY), "http_4xx"),
        (Answer(503), "http_5xx"),
        (Answer(302, {"Location": "/"}), "http_3xx"),
        (Answer(close=True), "connection"),
        (Answer(200, {}, b"<html>"), "answer"),
        (Answer(200, {}, b'{"choices":[]}'), "answer"),
    ],
)
async def test_what_goes_wrong_has_its_kind_and_shows_no_key(asking: Asking, answer: Answer, kind: str) -> None:
    asking.server.answer = lambda asked: answer
    outcome = await asking.ask()
    assert isinstance(outcome, Failed), outcome
    assert outcome.kind == kind
    assert KEY.decode() not in outcome.message
    retry = Registry.load()["llm.chat"].retry
    assert retry is not None
    assert (kind in retry.on) is (kind in ("http_429", "http_5xx", "connection"))


@pytest.mark.parametrize(
    "inputs",
    [
        {"prompt": None},
        {"messages": []},
        {"base_url": "https://a.example"},
        {"endpoint": None},
        {"options": {"stream": True}},
        {"prompt": None, "messages": [], "system": "x"},
    ],
)
async def test_what_does_not_go_together_is_refused_before_anything_is_sent(
    asking: Asking, inputs: dict[str, Any]
) -> None:
    outcome = await asking.ask(**inputs)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, asking.server.asked) == ("input", [])


async def test_a_key_that_no_header_can_carry_is_not_shown(asking: Asking) -> None:
    asking.key = KEY + b"\n"
    outcome = await asking.ask()
    assert isinstance(outcome, Failed)
    assert outcome.kind == "input"
    assert KEY.decode() not in outcome.message
