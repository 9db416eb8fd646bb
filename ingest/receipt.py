"""What is kept of a request beside its body: facts as JSON, headers as they came, minus what must not be
kept.

Credentials are not stored: the values of headers that carry them are replaced. Signatures are kept, so that a
delivery can be verified again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from events.headers import encode_headers
from ingest.identity import Identity
from ingest.verify.schemes import Incoming

REDACTED = b"[redacted]"
_CREDENTIALS = frozenset(
    (
        b"authorization",
        b"cookie",
        b"proxy-authorization",
        b"x-api-key",
        b"x-gitlab-token",
        b"x-telegram-bot-api-secret-token",
    )
)
_SECRET_QUERY = re.compile(rb"(?i)((?:^|&)(?:access_token|api_key|apikey|key|secret|token)=)[^&]*")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ENCODER = msgspec.json.Encoder()


def redacted(raw: list[tuple[bytes, bytes]]) -> bytes:
    """The header lines as they are kept, credentials replaced."""
    return encode_headers([(name, REDACTED if name in _CREDENTIALS else value) for name, value in raw])


def traceparent_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The sender's W3C trace context, if it sent a valid one (https://www.w3.org/TR/trace-context/)."""
    value = headers.get(b"traceparent")
    return value.decode() if value is not None and _TRACEPARENT.fullmatch(value) else None


def metadata_of(source: str, incoming: Incoming, identity: Identity, secret: int, traceparent: str | None) -> str:
    """The facts about a delivery as JSON text: only what is there."""
    facts: dict[str, object] = {
        "source": source,
        "event_type": identity.event_type,
        "method": incoming.method,
        "size": len(incoming.body),
    }
    if identity.delivery_id is not None:
        facts["delivery_id"] = identity.delivery_id
    if incoming.query:
        facts["query"] = _SECRET_QUERY.sub(rb"\1[redacted]", incoming.query).decode("utf-8", "replace")
    content_type = incoming.headers.get(b"content-type")
    if content_type is not None:
        facts["content_type"] = content_type.decode("latin-1")
    if secret >= 0:
        facts["secret"] = secret
    if traceparent is not None:
        facts["traceparent"] = traceparent
    return _ENCODER.encode(facts).decode()
