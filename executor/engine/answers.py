"""What an HTTP answer means to a node: the kind of its failure, and how long it is asked to wait."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from executor.engine.outbound import Response
from executor.workflow.outcomes import NodeError

RETRY_AFTER_LIMIT = 86_400.0
"""The longest wait that another service may ask of us, in seconds."""
_EXCERPT = 500


def refusal(what: str, response: Response) -> NodeError:
    """The failure that a status stands for: `http_429`, else its class (`http_5xx`, `http_4xx`, `http_3xx`…).

    Args:
        what: what was asked, for the message, for example `GET https://crm.example/customers/7`.
        response: the answer; the message shows the first 500 characters of its body.
    """
    kind = "http_429" if response.status == 429 else f"http_{response.status // 100}xx"
    excerpt = response.body[:_EXCERPT].decode("utf-8", "replace")
    return NodeError(kind, f"{what}: got status {response.status}: {excerpt}", retry_after(response.headers))


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110 §10.2.3: seconds or a date), at most a day.

    Args:
        headers: with names in lower case.
        now: Unix seconds; the default is this host's clock.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), RETRY_AFTER_LIMIT)
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(at - (time.time() if now is None else now), 0.0), RETRY_AFTER_LIMIT)
