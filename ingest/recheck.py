"""Checks a refused request again, and makes the receipt of one that passes. Pure: it reads and writes nothing.

Promises: the request is judged as it came, by the source as it is now, at the moment at which it was received: a
timestamp that was fresh is fresh, and a secret that had ended then has ended. What cannot be put together again as it
came is refused and says why.
"""

from __future__ import annotations

from typing import Any

import msgspec

from events.errors import ConfigError
from events.headers import decode_headers
from events.ids import uuid7, uuid7_time
from events.rejected import KeptRejection
from events.secretbox import SecretBox
from events.types import Receipt
from ingest.catalogue import Source
from ingest.handshakes import Keys
from ingest.providers import PRESETS
from ingest.receipt import metadata_of
from ingest.rejections import Sealed, sealed_context
from ingest.verify.base import Incoming, Refused, Site, Verified, headers_of


def received_at(kept: KeptRejection) -> float:
    """When the request came, in Unix seconds."""
    return uuid7_time(kept.id)


def reopened(kept: KeptRejection, box: SecretBox | None) -> Incoming | Refused:
    """The request as it came; Refused where that cannot be had any more."""
    facts: dict[str, Any] = kept.metadata
    if kept.sealed is None:
        if facts.get("query"):
            return Refused("its query was not kept: there was no secret_key when it came")
        query = b""
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in decode_headers(kept.headers)]
    else:
        try:
            if box is None:
                raise ConfigError("settings", ["secret_key: expected the key that sealed its headers, got nothing"])
            opened = msgspec.msgpack.decode(box.open(kept.sealed, sealed_context(kept.id)), type=Sealed)
        except ConfigError as error:
            return Refused("; ".join(error.faults))
        except msgspec.MsgspecError:
            return Refused("its sealed part was written by another version")
        query, headers = opened.query, opened.headers
    return Incoming(
        facts.get("method", "POST"), facts.get("path", ""), query, headers_of(headers), kept.body, facts.get("peer", "")
    )


def no_delivery(source: Source, incoming: Incoming) -> Refused | None:
    """Why an authentic request would not have been a delivery: it only greets. None if it would."""
    definition = source.compiled.definition
    preset = PRESETS.get(definition.preset)
    if preset is None:
        return None
    if incoming.method not in (definition.methods or preset.methods):
        return Refused(
            f"a {incoming.method} delivers nothing here; if it was a greeting, have the sender send it again"
        )
    # Whether it greets does not depend on the keys; the answer, which would, is thrown away.
    keys = Keys((b"-",), (b"-",), Site(definition.url, definition.options))
    if preset.handshake is not None and preset.handshake.answer(incoming, keys) is not None:
        return Refused("it was a greeting, which is answered at once or not at all: have the sender send it again")
    return None


def receipt_of(
    source: Source, kept: KeptRejection, incoming: Incoming, verified: Verified, *, by: str, now: float
) -> Receipt:
    """What is appended: as if it had been accepted, and a note of who admitted which refused request.

    Args:
        by: who admits it.
        now: Unix seconds.
    """
    identity = source.compiled.identify(incoming)
    facts: dict[str, Any] = msgspec.json.decode(metadata_of(source.slug, incoming, identity, verified.secret, None))
    facts |= {"rejected": str(kept.id), "admitted_by": by, "received_at": received_at(kept)}
    return Receipt(
        stream_id=uuid7(now),
        workspace_id=kept.workspace_id,
        source_id=kept.source_id,
        key=identity.key,
        metadata=msgspec.json.encode(facts).decode(),
        headers=kept.headers,
        body=kept.body,
        nonce=verified.nonce,
    )
