"""`http.request`: one HTTP request behind the guard; what comes back is the output.

A step reads

    uses: http.request
    with: {url: "https://crm.example/customers/7", query: {full: true}}

Output: `{status, headers, body}`; the body is parsed where the answer says it is JSON, else text. Every
request but a GET or HEAD carries the node's idempotency key, so that the other side can tell a retry from a
second order.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET

from executor.engine.answers import refusal
from executor.engine.context import NodeContext
from executor.engine.outbound import Response, shown
from executor.engine.registry import node
from executor.workflow.backoff import Backoff
from executor.workflow.graph import Retry
from executor.workflow.outcomes import NodeError

_RETRY = Retry(max_attempts=5, backoff=Backoff(), on=("timeout", "connection", "http_5xx", "http_429"))


@node("http.request", timeout=30.0, retry=_RETRY)
async def http_request(
    context: NodeContext,
    *,
    url: str,
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET",
    headers: dict[str, str] = {},  # noqa: B006 - every call gets a copy
    query: dict[str, Any] = {},  # noqa: B006
    json: Any = UNSET,
    body: str | None = None,
    expect: int | list[int] | None = None,
    follow_redirects: bool = False,
) -> dict[str, Any]:
    """Send it and give back the answer.

    Args:
        json: a value to send as JSON; or `body`, text to send as it is.
        expect: the statuses that are a success. Default: 200 to 299.
        follow_redirects: at most 5, each checked by the guard. Default: a redirect is the answer.

    Raises:
        NodeError: `http_429`, `http_5xx`, `http_4xx`, `http_3xx` (with the wait that the answer asks for), or
            what the client raises: `timeout`, `connection`, `blocked`, `input`, `error`.
    """
    if json is not UNSET and body is not None:
        raise NodeError("input", "http.request: expected json or body, got both")
    response = await context.http.request(
        method,
        url,
        headers=_with_ours(headers, context, method),
        query=query,
        json=json,
        body=body,
        follow_redirects=follow_redirects,
    )
    if not _is_expected(response.status, expect):
        raise refusal(f"{method} {shown(url)}", response)
    return {"status": response.status, "headers": response.headers, "body": _parsed(response)}


def _with_ours(headers: dict[str, str], context: NodeContext, method: str) -> dict[str, str]:
    given = {name.lower() for name in headers}
    ours: dict[str, str] = {}
    if method not in ("GET", "HEAD") and "idempotency-key" not in given:
        ours["idempotency-key"] = context.idempotency_key
    if context.traceparent is not None and "traceparent" not in given:
        ours["traceparent"] = context.traceparent
    return headers | ours


def _is_expected(status: int, expect: int | list[int] | None) -> bool:
    match expect:
        case None:
            return 200 <= status < 300
        case int():
            return status == expect
        case list():
            return status in expect


def _parsed(response: Response) -> Any:
    kind, _, parameters = response.headers.get("content-type", "").lower().partition(";")
    if kind.strip() == "application/json" or kind.strip().endswith("+json"):
        try:
            return msgspec.json.decode(response.body)
        except msgspec.DecodeError:  # it says JSON and is not: better its text than nothing
            pass
    charset = parameters.partition("charset=")[2].strip().strip('"') or "utf-8"
    try:
        return response.body.decode(charset, "replace")
    except LookupError:
        return response.body.decode("utf-8", "replace")
