"""What senders are answered: a status, headers and a small JSON body, made with no framework in between."""

from __future__ import annotations

from uuid import UUID

import msgspec


class Reply(msgspec.Struct, frozen=True):
    """One answer, ready to be sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def _reply(status: int, body: bytes, more: list[tuple[bytes, bytes]]) -> Reply:
    return Reply(status, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *more], body)


def accepted(id: UUID, duplicate: bytes) -> Reply:
    """202: the delivery is in the log under `id`. `duplicate` is JSON's true or false."""
    return _reply(202, b'{"id":"%b","duplicate":%b}' % (str(id).encode(), duplicate), [])


def problem(status: int, about: str, message: str, more: list[tuple[bytes, bytes]] | None = None) -> Reply:
    """An error: what was expected, what came, what to do."""
    return _reply(status, msgspec.json.encode({"error": about, "message": message}), more or [])
