"""From an authentic request to what is kept of it: one receipt, and one for each logical event of a batch.

Promises: pure; the exact bytes are kept as the body. Credentials are not stored: the values of headers and query
parameters that carry them are replaced. Signatures are kept, so that a delivery can be verified again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import msgspec

from events.headers import encode_headers
from events.ids import dedup_key, derived_id, uuid7
from events.types import Receipt
from ingest.catalogue import Source
from ingest.compiled import Credentials
from ingest.identity import Identity
from ingest.verify.base import Incoming, Verified

REDACTED = b"[redacted]"
MOST_QUERY = 2048
"""Bytes of a query that each item of a batch keeps; a longer one is kept with the batch alone."""
_SECRET_WORDS = re.compile(
    rb"(?:^|[-_.])(?:authorization|auth|cookie2?|credentials?|passw(?:or)?d|pwd|secrets?|token|api[-_]?key"
    rb"|(?:access|private|shared)[-_]key)(?=$|[-_.])"
)
_SECRET_NAMES = frozenset((b"access_token", b"api_key", b"apikey", b"key", b"secret", b"token", b"hub.verify_token"))
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ENCODER = msgspec.json.Encoder()
_JSON = {"content_type": "application/json"}


class Arrival(msgspec.Struct, frozen=True):
    """A request on its way through the door.

    Args:
        incoming: as it came. `plain`: the same with its body decoded; the very same where nothing was encoded.
        raw: ASGI's header list.
        now: Unix seconds by the database's clock.
        traceparent: of the span that receives it.
    """

    source: Source
    incoming: Incoming
    plain: Incoming
    raw: list[tuple[bytes, bytes]]
    now: float
    traceparent: str | None


def receipt_of(arrival: Arrival, verified: Verified, **more: object) -> Receipt:
    """The receipt of a verified delivery, with its items if it is a batch.

    Args:
        more: facts for the metadata, for example who admitted it.
    """
    source, compiled = arrival.source, arrival.source.compiled
    if (bodies := compiled.events(arrival.plain)) is not None:
        return _batch(arrival, verified, bodies, more)
    identity = compiled.identify(arrival.plain)
    if identity.delivery_id is None and verified.coded:
        identity = msgspec.structs.replace(identity, key=_whole(arrival, verified).key)
    return Receipt(
        stream_id=uuid7(arrival.now),
        workspace_id=source.workspace_id,
        source_id=source.id,
        key=identity.key,
        metadata=_metadata(arrival, identity, verified, **more),
        headers=redacted(arrival.raw, compiled.credentials),
        body=arrival.incoming.body,
        nonce=verified.nonce,
    )


def _batch(arrival: Arrival, verified: Verified, bodies: list[bytes], more: dict[str, object]) -> Receipt:
    source, compiled = arrival.source, arrival.source.compiled
    id = uuid7(arrival.now)
    whole = _whole(arrival, verified)
    facts = _facts(arrival, verified) | _JSON | {"batch": id} | more
    if len(arrival.incoming.query) > MOST_QUERY:
        del facts["query"]
    items = []
    for index, body in enumerate(bodies):
        identity = compiled.identify(msgspec.structs.replace(arrival.plain, body=body))
        key = identity.key
        if identity.delivery_id is None:  # equal events without ids in one batch are several, as the sender says
            key = dedup_key(b"item", whole.key, b"%d" % index)
        named = _named(identity) | {"size": len(body), "index": index}
        items.append(
            Receipt(
                stream_id=derived_id(id, str(index)),
                workspace_id=source.workspace_id,
                source_id=source.id,
                key=key,
                metadata=_ENCODER.encode(facts | named).decode(),
                headers=b"",
                body=body,
            )
        )
    return Receipt(
        stream_id=id,
        workspace_id=source.workspace_id,
        source_id=source.id,
        key=whole.key,
        metadata=_metadata(arrival, whole, verified, items=len(items), **more),
        headers=redacted(arrival.raw, compiled.credentials),
        body=arrival.incoming.body,
        nonce=verified.nonce,
        items=tuple(items),
        routed=False,
    )


def _whole(arrival: Arrival, verified: Verified) -> Identity:
    """The hash of what was signed: whoever takes the Content-Encoding off must not make it look new."""
    return arrival.source.compiled.identify_whole(arrival.incoming if verified.coded else arrival.plain)


def greeting_receipt(arrival: Arrival, about: str) -> Receipt:
    """The note of an answered greeting: it makes no work, and each one counts."""
    source, id = arrival.source, uuid7(arrival.now)
    return Receipt(
        stream_id=id,
        workspace_id=source.workspace_id,
        source_id=source.id,
        key=id.bytes,
        metadata=_metadata(arrival, Identity(id.bytes, None, about), None, handshake=about),
        headers=redacted(arrival.raw, source.compiled.credentials),
        body=arrival.incoming.body,
        routed=False,
    )


def redacted(raw: list[tuple[bytes, bytes]], credentials: Credentials) -> bytes:
    """The header lines as they are kept, credentials replaced: those of the source's scheme, and whatever calls itself
    one, unless the source needs it as an id, a type or a signature.
    """
    ours, needed = credentials.headers, credentials.needed
    return encode_headers(
        [
            (name, REDACTED if name in ours or (_sounds_secret(name) and name not in needed) else value)
            for name, value in raw
        ]
    )


@lru_cache(1024)
def _sounds_secret(name: bytes) -> bool:
    return len(name) > 200 or _SECRET_WORDS.search(name) is not None


def traceparent_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The sender's W3C trace context, if it sent a valid one (https://www.w3.org/TR/trace-context/)."""
    value = headers.get(b"traceparent")
    return value.decode() if value is not None and _TRACEPARENT.fullmatch(value) else None


def _metadata(arrival: Arrival, identity: Identity, verified: Verified | None, **more: object) -> str:
    """The facts about a delivery as JSON text: only what is there."""
    facts = _facts(arrival, verified)
    facts |= _named(identity)
    facts["size"] = len(arrival.incoming.body)
    content_type = arrival.incoming.headers.get(b"content-type")
    if content_type is not None:
        facts["content_type"] = content_type.decode("latin-1")
    if arrival.plain is not arrival.incoming:
        facts["encoding"] = arrival.incoming.headers[b"content-encoding"].decode("latin-1")
    if more:
        facts |= more
    return _ENCODER.encode(facts).decode()


def _named(identity: Identity) -> dict[str, object]:
    if identity.delivery_id is None:
        return {"event_type": identity.event_type}
    return {"event_type": identity.event_type, "delivery_id": identity.delivery_id}


def _facts(arrival: Arrival, verified: Verified | None) -> dict[str, object]:
    """What a delivery and its items have in common."""
    source, incoming = arrival.source, arrival.incoming
    facts: dict[str, object] = {"source": source.slug, "method": incoming.method}
    if incoming.query:
        facts["query"] = redacted_query(incoming.query, source.compiled.credentials)
    if verified is not None and verified.secret >= 0:
        facts["secret"] = source.compiled.labels[verified.secret]
    if arrival.traceparent is not None:
        facts["traceparent"] = arrival.traceparent
    return facts


def redacted_query(query: bytes, credentials: Credentials) -> str:
    """The query as it is kept, credentials replaced."""
    parts = []
    for part in query.split(b"&"):
        name, equals, value = part.partition(b"=")
        folded = unquote_to_bytes(name.replace(b"+", b" ")).lower()  # as those read it who look for credentials
        secret = folded in _SECRET_NAMES or folded in credentials.query
        parts.append(name + equals + (REDACTED if secret else value))
    return b"&".join(parts).decode("utf-8", "replace")
