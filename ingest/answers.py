"""All that senders are told, except what a source of their own makes of an accepted delivery."""

from __future__ import annotations

from uuid import UUID

from ingest.handshakes import Answer
from ingest.rates import retry_after
from ingest.reply import Reply, problem

RETRY_AFTER = 2
"""Seconds that a sender is asked to wait after a 503."""

_CLOSE = (b"connection", b"close")


UNKNOWN = problem(404, "source", "there is no such source; nothing was stored")
TOO_LARGE = problem(413, "body", "the body is larger than this service accepts; nothing was stored", _CLOSE)
SLOW = problem(408, "body", "the body did not come in time; nothing was stored: send it again", _CLOSE)
CROWDED = problem(
    503,
    "load",
    "not stored: there is no room for it now; send it again",
    (b"retry-after", b"%d" % RETRY_AFTER),
)  # the connection stays: its sender gets to read this when it has sent what is thrown away meanwhile
TRY_AGAIN = problem(
    503,
    "log",
    "not stored: the event log cannot be written now; send it again",
    (b"retry-after", b"%d" % RETRY_AFTER),
)


def method_not_allowed(allow: bytes) -> Reply:
    """405. `allow`: the methods that the source knows."""
    return problem(405, "method", f"expected {allow.decode()}", (b"allow", allow))


def too_many(wait: float) -> Reply:
    """429: the source's rate is used up for `wait` seconds more."""
    message = "more than this source's rate allows; nothing was stored: send it again later"
    return problem(429, "rate", message, (b"retry-after", retry_after(wait)))


def refused(reason: str, kept: UUID | None) -> Reply:
    """401. `kept`: under which id staff finds the request."""
    return problem(401, "signature", reason, **({"rejected": str(kept)} if kept else {}))


def greeting(answer: Answer) -> Reply:
    """What a handshake says."""
    headers = list(answer.headers)
    if answer.status != 204:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    return Reply(answer.status, headers, answer.body)
