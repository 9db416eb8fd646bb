"""What a sender has before it signs, what it has after, and the small tools that all senders share.

Nothing here is shared with `ingest.verify`: what signs and what verifies are written apart, each from the senders'
documentation, so that a mistake in one shows in the other.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from events.errors import ConfigError

Headers = list[tuple[str, str]]


class Draft(msgspec.Struct, frozen=True):
    """A delivery that is to be signed.

    Args:
        secret: as the receiver's source has it; for Basic `user:password`.
        event: the event type.
        delivery_id: what the receiver is to know the delivery by, where the sender has a header for it.
        now: Unix seconds.
        url: where it is sent, with its query; for senders that sign it.
    """

    secret: str
    event: str
    delivery_id: str
    body: bytes
    now: float
    url: str = ""
    method: str = "POST"


class Sent(msgspec.Struct, frozen=True):
    """A signed delivery. `query` is what has to be added to the URL."""

    headers: Headers
    body: bytes
    query: str = ""


Sender = Callable[[Draft], Sent]
"""Signs; raises ConfigError for a secret or a body that the sender could not have."""


def unusable(expected: str) -> ConfigError:
    """The error for what a sender cannot use; `expected` shows no secret."""
    return ConfigError("signing", [expected])


def signature(key: bytes, message: bytes, algorithm: str, encoding: str) -> str:
    """An HMAC (RFC 2104) as text."""
    digest = hmac.digest(key, message, algorithm)
    match encoding:
        case "hex":
            return digest.hex()
        case "base64":
            return base64.b64encode(digest).decode()
        case "base64url":
            return base64.urlsafe_b64encode(digest).decode()
        case _:
            raise ValueError(f"expected hex, base64 or base64url, got {encoding!r}")


def key_of(secret: str, form: str = "text") -> bytes:
    """The key that a secret stands for.

    Raises:
        ConfigError: it is blank, or not in that form.
    """
    if not secret.strip():
        raise unusable("secret: expected one, got a blank one")
    try:
        match form:
            case "hex":
                key = bytes.fromhex(secret.strip())
            case "base64":
                key = base64.b64decode(secret.strip(), validate=True)
            case _:
                key = secret.encode()
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise unusable(f"secret: expected a key in {form}, got something else")
    return key


def times(now: float) -> dict[str, str]:
    """A time in the forms that senders write: `s`, `ms`, `iso8601`."""
    whole = datetime.fromtimestamp(int(now), UTC)
    return {"s": str(int(now)), "ms": str(int(now * 1000)), "iso8601": whole.strftime("%Y-%m-%dT%H:%M:%SZ")}


def document_of(body: bytes, who: str) -> dict[str, Any]:
    """A body that must be a JSON object.

    Raises:
        ConfigError: it is something else.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = None
    if not isinstance(document, dict):
        raise unusable(f"body: expected a JSON object, because {who} signs within it, got something else")
    return document


def placed(body: bytes, pointer: str, value: str | int) -> bytes:
    """The JSON object with another value at a JSON Pointer; as it was where there is no such place.

    In an array of objects each gets a value of its own. Members that are missing on the way are made, elements are not.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body
    if isinstance(document, list):
        done = [_put(element, pointer, f"{value}-{index}") for index, element in enumerate(document)]
        return msgspec.json.encode(document) if any(done) else body
    return msgspec.json.encode(document) if _put(document, pointer, value) else body


def _put(document: Any, pointer: str, value: str | int) -> bool:
    """Whether there was a place for the value."""
    *above, last = [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]
    place = document
    may_make = not any(token.isdigit() for token in above)
    for token in above:
        if isinstance(place, list) and token.isdigit() and int(token) < len(place):
            place = place[int(token)]
        elif isinstance(place, dict) and (token in place or may_make):
            place = place.setdefault(token, {})
        else:
            return False
    if not isinstance(place, dict):
        return False
    place[last] = value
    return True
