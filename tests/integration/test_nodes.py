"""The built-in nodes against a real HTTP server, through `execute` as the engine runs them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks.webhooks import Webhook

from executor import Endpoint, NodeContext, NodeError
from executor.engine.node import execute
from executor.engine.outbound import OutboundClient
from executor.engine.processes import KillablePool
from executor.engine.registry import Registry
from executor.workflow.outcomes import Completed, Failed, Outcome
from tests.integration.http_server import Answer, Server, http_server

pytestmark = pytest.mark.anyio
RUN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
KEY = b"thirty-two bytes of a secret key"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Bench:
    """A server, and attempts at nodes that may call it."""

    def __init__(self, server: Server, client: OutboundClient) -> None:
        self.server = server
        self._client = client
        self._registry = Registry.load()

    async def attempt(self, uses: str, inputs: dict[str, Any], attempt: int = 1) -> Outcome:
        context = NodeContext(RUN, "orders", "notify", attempt, 0.0, TRACEPARENT, self._client, self._endpoint)
        return await execute(self._registry[uses], context, inputs, 60.0, KillablePool(1))

    async def _endpoint(self, name: str, workspace_id: int) -> Endpoint:
        match name:
            case "raw":
                return Endpoint(f"{self.server.url}/hook", KEY)
            case "text":
                return Endpoint(f"{self.server.url}/hook", b"whsec_" + base64.b64encode(KEY))
            case _:
                raise NodeError("input", f"endpoint {name!r}: no such endpoint")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    client = OutboundClient(["127.0.0.0/8"])
    async with http_server() as server:
        yield Bench(server, client)
        await client.aclose()


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, Completed), outcome
    return outcome.output


async def test_transform_gives_its_value(bench: Bench) -> None:
    assert await bench.attempt("transform", {"value": {"a": [1, None]}}) == Completed({"a": [1, None]})


@pytest.mark.parametrize(
    ("kind", "body", "parsed"),
    [
        ("application/json", b'{"a":1}', {"a": 1}),
        ("application/problem+json; charset=utf-8", b"[1]", [1]),
        ("application/json", b"not json", "not json"),
        ("text/plain; charset=latin-1", b"caf\xe9", "café"),
        ("text/plain; charset=nonsense", b"text", "text"),
        ("application/octet-stream", b"\xff", "\ufffd"),
    ],
)
async def test_http_request_parses_what_says_it_is_json(bench: Bench, kind: str, body: bytes, parsed: Any) -> None:
    bench.server.answer = lambda asked: Answer(200, {"Content-Type": kind}, body)
    result = output(await bench.attempt("http.request", {"url": bench.server.url}))
    assert (result["status"], result["body"], result["headers"]["content-type"]) == (200, parsed, kind)


async def test_http_request_sends_what_it_is_given(bench: Bench) -> None:
    await bench.attempt(
        "http.request",
        {"url": bench.server.url, "method": "POST", "json": None, "query": {"a": 1}, "headers": {"X-A": "b"}},
    )
    (asked,) = bench.server.asked
    assert (asked.method, asked.target, asked.body, asked.headers["x-a"]) == ("POST", "/?a=1", b"null", "b")
    assert asked.headers["traceparent"] == TRACEPARENT


async def test_a_post_carries_the_same_idempotency_key_on_every_attempt(bench: Bench) -> None:
    for attempt in (1, 2):
        await bench.attempt("http.request", {"url": bench.server.url, "method": "POST", "body": "x"}, attempt)
    first, second = (asked.headers["idempotency-key"] for asked in bench.server.asked)
    assert first == second


async def test_a_get_carries_no_idempotency_key_and_a_given_one_wins(bench: Bench) -> None:
    await bench.attempt("http.request", {"url": bench.server.url})
    await bench.attempt(
        "http.request", {"url": bench.server.url, "method": "PUT", "headers": {"Idempotency-Key": "mine"}}
    )
    assert [asked.headers.get("idempotency-key") for asked in bench.server.asked] == [None, "mine"]


@pytest.mark.parametrize(
    ("status", "headers", "kind", "wait"),
    [
        (429, {"Retry-After": "17"}, "http_429", 17.0),
        (503, {"Retry-After": "9"}, "http_5xx", 9.0),
        (500, {}, "http_5xx", None),
        (404, {}, "http_4xx", None),
        (302, {"Location": "/elsewhere"}, "http_3xx", None),
    ],
)
@pytest.mark.parametrize("uses", ["http.request", "webhook.deliver"])
async def test_a_refusal_has_its_kind_and_its_wait(
    bench: Bench, uses: str, status: int, headers: dict[str, str], kind: str, wait: float | None
) -> None:
    bench.server.answer = lambda asked: Answer(status, headers, b"the reason")
    extra: dict[str, Any] = {"body": {}} if uses == "webhook.deliver" else {}
    outcome = failed(await bench.attempt(uses, {"url": bench.server.url, **extra}))
    assert (outcome.kind, outcome.retry_after) == (kind, wait)
    assert "the reason" in outcome.message


@pytest.mark.parametrize("expect", [404, [200, 404]])
async def test_an_expected_status_is_a_success(bench: Bench, expect: Any) -> None:
    bench.server.answer = lambda asked: Answer(404)
    result = output(await bench.attempt("http.request", {"url": bench.server.url, "expect": expect}))
    assert result["status"] == 404


async def test_a_success_that_is_not_expected_is_a_failure(bench: Bench) -> None:
    outcome = failed(await bench.attempt("http.request", {"url": bench.server.url, "expect": 201}))
    assert outcome.kind == "http_2xx"


async def test_json_and_body_exclude_each_other(bench: Bench) -> None:
    inputs = {"url": bench.server.url, "method": "POST", "json": 1, "body": "x"}
    assert failed(await bench.attempt("http.request", inputs)).kind == "input"


async def test_a_node_cannot_leave_the_guard(bench: Bench) -> None:
    outcome = failed(await bench.attempt("http.request", {"url": "http://169.254.169.254/latest/meta-data/"}))
    assert outcome.kind == "blocked"


@pytest.mark.parametrize("endpoint", ["raw", "text"])
async def test_a_delivery_verifies_with_the_standards_own_library(bench: Bench, endpoint: str) -> None:
    body = {"order": 7, "name": "é"}
    outcome = await bench.attempt("webhook.deliver", {"endpoint": endpoint, "body": body}, 3)
    assert outcome == Completed({"status": 200, "attempt": 3})
    (asked,) = bench.server.asked
    assert Webhook(base64.b64encode(KEY).decode()).verify(asked.body, asked.headers) == body


async def test_a_delivery_has_one_id_and_one_body_over_all_attempts(bench: Bench) -> None:
    for attempt in (1, 2):
        inputs = {"endpoint": "raw", "type": "order.paid", "body": {"order": 7}}
        await bench.attempt("webhook.deliver", inputs, attempt)
    first, second = bench.server.asked
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    payload = Webhook(base64.b64encode(KEY).decode()).verify(second.body, second.headers)
    assert (payload["type"], payload["data"]) == ("order.paid", {"order": 7})
    assert payload["timestamp"].endswith("Z")


async def test_a_url_without_a_secret_is_delivered_unsigned(bench: Bench) -> None:
    inputs = {"url": f"{bench.server.url}/open", "body": [1]}
    assert output(await bench.attempt("webhook.deliver", inputs))["status"] == 200
    (asked,) = bench.server.asked
    assert ("webhook-id" in asked.headers, "webhook-signature" in asked.headers) == (True, False)


async def test_an_endpoint_that_is_gone_is_not_retried(bench: Bench) -> None:
    bench.server.answer = lambda asked: Answer(410)
    outcome = failed(await bench.attempt("webhook.deliver", {"endpoint": "raw", "body": {}}))
    assert outcome.kind == "http_410"
    retry = Registry.load()["webhook.deliver"].retry
    assert retry is not None
    assert (retry.max_attempts, "http_410" in retry.on, "http_5xx" in retry.on) == (8, False, True)


@pytest.mark.parametrize("target", [{}, {"endpoint": "raw", "url": "http://x.example/"}, {"endpoint": "none"}])
async def test_a_delivery_needs_one_known_target(bench: Bench, target: dict[str, str]) -> None:
    assert failed(await bench.attempt("webhook.deliver", {"body": {}, **target})).kind == "input"
