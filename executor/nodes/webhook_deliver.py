"""`webhook.deliver`: a webhook to someone else, signed and retried for hours.

    uses: webhook.deliver
    with: {endpoint: crm, type: order.paid, body: "${{ nodes.summary.output }}"}

Signed as Standard Webhooks (standardwebhooks.com, symmetric `v1`): the base64 of the HMAC-SHA256 over
`id.timestamp.body`. The id is the node's idempotency key, the same on every attempt, so the receiver can tell
a retry from a second event. With a `type` the body is wrapped as that specification proposes: `{type,
timestamp, data}`, where the timestamp is the start of the run and so the same on every attempt too.

2xx is delivered. 410 says that the endpoint is gone: kind `http_410`, which is not retried. All else is
retried, not before a `Retry-After` that the answer gives.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from events.ids import uuid7_time
from executor.engine.answers import refusal
from executor.engine.context import Endpoint, NodeContext
from executor.engine.outbound import shown
from executor.engine.registry import node
from executor.workflow.backoff import Backoff
from executor.workflow.graph import Retry
from executor.workflow.outcomes import NodeError

_PREFIX = b"whsec_"
_RETRY = Retry(
    max_attempts=8,  # about seven and a half hours, without jitter
    backoff=Backoff(first=5.0, factor=4.0, max=6 * 3600.0),
    on=("timeout", "connection", "http_5xx", "http_429", "http_4xx", "http_3xx"),
)


@node("webhook.deliver", timeout=30.0, retry=_RETRY)
async def deliver(
    context: NodeContext,
    body: Any,
    endpoint: str | None = None,
    url: str | None = None,
    type: str | None = None,
) -> dict[str, Any]:
    """Deliver `body` as JSON to a configured endpoint, or unsigned to a URL.

    Raises:
        NodeError: `http_410`, `http_429`, `http_5xx`, `http_4xx`, `http_3xx`, `input`, or what the client
            raises.
    """
    target = await _target(context, endpoint, url)
    payload = msgspec.json.encode(body if type is None else _wrapped(context, type, body))
    now = int(time.time())
    headers = {
        "content-type": "application/json",
        "webhook-id": context.idempotency_key,
        "webhook-timestamp": str(now),
    }
    if target.secret:
        headers["webhook-signature"] = sign(target.secret, context.idempotency_key, now, payload)
    if context.traceparent is not None:
        headers["traceparent"] = context.traceparent
    response = await context.http.request("POST", target.url, headers=headers, body=payload)
    if 200 <= response.status < 300:
        return {"status": response.status, "attempt": context.attempt}
    if response.status == 410:
        raise NodeError("http_410", f"POST {shown(target.url)}: got status 410: the endpoint wants no more webhooks")
    raise refusal(f"POST {shown(target.url)}", response)


def sign(secret: bytes, message_id: str, timestamp: int, payload: bytes) -> str:
    """The value of `webhook-signature`.

    Args:
        secret: the key, or its text form `whsec_<base64>`.
        timestamp: Unix seconds.

    Raises:
        NodeError: kind `input`; the text form is not base64.
    """
    try:
        key = base64.b64decode(secret[len(_PREFIX) :], validate=True) if secret.startswith(_PREFIX) else secret
    except binascii.Error:
        raise NodeError("input", "the endpoint's secret: expected whsec_ and base64, got something else") from None
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, payload)
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


async def _target(context: NodeContext, endpoint: str | None, url: str | None) -> Endpoint:
    match endpoint, url:
        case str(), None:
            return await context.endpoint(endpoint)
        case None, str():
            return Endpoint(url)
        case _:
            got = "neither" if endpoint is None else "both"
            raise NodeError("input", f"webhook.deliver: expected endpoint or url, got {got}")


def _wrapped(context: NodeContext, kind: str, body: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(uuid7_time(context.run_id), UTC).isoformat(timespec="milliseconds")
    return {"type": kind, "timestamp": at.replace("+00:00", "Z"), "data": body}
