"""`search.web` against an HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import pytest

from executor import Endpoint, NodeContext
from executor.engine.node import execute
from executor.engine.outbound import OutboundClient
from executor.engine.processes import KillablePool
from executor.engine.registry import Registry
from executor.workflow.outcomes import Completed, Deferred, Failed, Outcome
from tests.integration.http_server import Answer, Server, http_server

pytestmark = pytest.mark.anyio
KEY = b"a-key-that-nobody-sees"
FOUND = (
    b'{"web":{"r/s":[{"t":["A"],"u":"https://a"},{"t":[]},{"t":["B"],"u":"https://b","d":"bee"},{"u":"https://c"}]}}'
)
POINTERS = {"results": "/web/r~1s", "title": "/t/0", "url": "/u", "snippet": "/d"}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with http_server() as server:
        yield server


async def ask(server: Server, **inputs: Any) -> Outcome:
    async def endpoint(name: str, workspace_id: int) -> Endpoint:
        return Endpoint(f"{server.url}/s?lang=en", KEY)

    client = OutboundClient(["127.0.0.0/8"])
    try:
        context = NodeContext(UUID(int=7), "w", "ask", 1, 0.0, None, client, endpoint)
        given = {"endpoint": "search", "query": "a b", **inputs}
        return await execute(Registry.load()["search.web"], context, given, 60.0, KillablePool(1))
    finally:
        await client.aclose()


async def test_it_asks_and_finds_the_results_where_the_pointers_lead(server: Server) -> None:
    server.answer = lambda asked: Answer(200, {}, FOUND)
    outcome = await ask(server, **POINTERS, count=2, key_header="X-Key", key_prefix="", parameters={"n": 5})
    assert isinstance(outcome, Completed), outcome
    assert outcome.output == {
        "results": [
            {"title": "A", "url": "https://a", "snippet": ""},
            {"title": "B", "url": "https://b", "snippet": "bee"},
        ]
    }
    (asked,) = server.asked
    assert asked.headers["x-key"] == KEY.decode()
    assert parse_qs(asked.target.partition("?")[2]) == {"lang": ["en"], "n": ["5"], "q": ["a b"]}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(403, {}, b"bad " + KEY), "http_4xx"),
        (Answer(500), "http_5xx"),
        (Answer(200, {}, b"<html>"), "answer"),
        (Answer(200, {}, b'{"results":{}}'), "answer"),
    ],
)
async def test_what_goes_wrong_has_its_kind_and_shows_no_key(server: Server, answer: Answer, kind: str) -> None:
    server.answer = lambda asked: answer
    outcome = await ask(server)
    assert isinstance(outcome, Failed), outcome
    assert outcome.kind == kind
    assert KEY.decode() not in outcome.message


async def test_a_429_with_a_wait_is_a_deferral_and_wrong_inputs_are_not_sent(server: Server) -> None:
    server.answer = lambda asked: Answer(429, {"Retry-After": "7"}, KEY)
    outcome = await ask(server)
    assert isinstance(outcome, Deferred), outcome
    assert (outcome.seconds, KEY.decode() in outcome.reason) == (7, False)
    for wrong in ({"count": 0}, {"count": 101}, {"url": "u"}):
        refused = await ask(server, **wrong)
        assert isinstance(refused, Failed)
        assert refused.kind == "input"
    assert len(server.asked) == 1
