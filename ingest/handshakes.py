"""What a sender asks once, or again and again, to see that the address is ours: challenges and pings.

Promises: a handshake is a pure function from a request and the source's secrets to an answer; it never raises, and
answers nothing that the sender's documentation does not ask for. `before` says whether it is asked unsigned (a GET that
carries a challenge) and answered before verification, or signed like any delivery and answered after it. What is given
back of a request is bounded in length, of few characters or escaped as JSON, and never taken for a page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ingest.verify.base import Incoming, Site

MOST_CHALLENGE = 1024
"""Characters of a challenge. What is longer is no greeting."""
MOST_BODY = 16 << 10
"""Bytes of a body that greets. What is longer is no greeting."""

NOSNIFF = (b"x-content-type-options", b"nosniff")
JSON = ((b"content-type", b"application/json"), NOSNIFF)
TEXT = ((b"content-type", b"text/plain; charset=utf-8"), NOSNIFF)


class Answer(msgspec.Struct, frozen=True):
    """What the sender is told. `about` becomes the event type in the log, for example `slack.url_verification`.

    `confirm`: a URL that must have been fetched with success before the answer is sent (SNS), on a host that the
    handshake has checked.
    """

    about: str
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = JSON
    body: bytes = b""
    confirm: str = ""


class Keys(msgspec.Struct, frozen=True):
    """The source's secrets, as a handshake needs them: those that sign, and those with `for: handshake`."""

    signing: Sequence[bytes]
    handshake: Sequence[bytes]
    site: Site


class Handshake(msgspec.Struct, frozen=True):
    """How one provider greets.

    Args:
        methods: those that the greeting uses beside the source's own.
        before: answered before verification.
        answer: None where the request is not a greeting; it is a delivery then, or refused by its method.
    """

    answer: Callable[[Incoming, Keys], Answer | None]
    methods: tuple[str, ...] = ()
    before: bool = False


def json_answer(about: str, content: object) -> Answer:
    """200 and JSON, in which whatever came from the request is escaped."""
    return Answer(about, body=msgspec.json.encode(content))
