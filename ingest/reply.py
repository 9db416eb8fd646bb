"""Answers: a status, headers and a small body, made with no framework in between."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from events.types import Accepted, Appended, Duplicate
from ingest.providers.base import Response


class Reply(msgspec.Struct, frozen=True):
    """One answer, ready to be sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def problem(status: int, about: str, message: str, *more: tuple[bytes, bytes], **facts: str) -> Reply:
    """An error: what was expected, what came, what to do."""
    body = msgspec.json.encode({"error": about, "message": message} | facts)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *more]
    return Reply(status, headers, body)


def responder(response: Response) -> Callable[[Appended], Reply]:
    """What a source's accepted deliveries are answered: its own text, or `{"id": …, "duplicate": …}`."""
    own = [(name.lower().encode(), value.encode()) for name, value in response.headers]
    if response.body is not None or response.status == 204:
        body = (response.body or "").encode()
        headers = own if response.status == 204 else [*own, (b"content-length", b"%d" % len(body))]
        if body and not any(name == b"content-type" for name, _ in own):
            headers = [(b"content-type", b"text/plain; charset=utf-8"), *headers]
        fixed = Reply(response.status, headers, body)
        return lambda appended: fixed
    if not any(name == b"content-type" for name, _ in own):
        own = [(b"content-type", b"application/json"), *own]

    def respond(appended: Appended) -> Reply:
        match appended:
            case Accepted(id):
                body = b'{"id":"%b","duplicate":false}' % str(id).encode()
            case Duplicate(id):
                body = b'{"id":"%b","duplicate":true}' % str(id).encode()
        return Reply(response.status, [*own, (b"content-length", b"%d" % len(body))], body)

    return respond
