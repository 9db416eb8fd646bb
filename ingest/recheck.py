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
from events.ids import uuid7_time
from events.rejected import KeptRejection
from events.secretbox import SecretBox
from events.types import Receipt
from ingest.catalogue import Source
from ingest.coding import plain_of
from ingest.receipt import Arrival
from ingest.receipt import receipt_of as accepted_receipt
from ingest.rejections import Sealed, sealed_context
from ingest.verify.base import Incoming, Refused, Verified, headers_of


def received_at(kept: KeptRejection) -> float:
    """When the request came, in Unix seconds."""
    return uuid7_time(kept.id)


class Reopened(msgspec.Struct, frozen=True):
    """The request as it came, the same with its body decoded, and its headers as a list."""

    incoming: Incoming
    plain: Incoming
    raw: list[tuple[bytes, bytes]]


def reopened(kept: KeptRejection, box: SecretBox | None, limit: int) -> Reopened | Refused:
    """The request as it came; Refused where that cannot be had any more.

    Args:
        limit: bytes that its body may have when it is decoded.
    """
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
    incoming = Incoming(
        facts.get("method", "POST"), facts.get("path", ""), query, headers_of(headers), kept.body, facts.get("peer", "")
    )
    return Reopened(incoming, plain_of(incoming, limit), headers)


def no_delivery(source: Source, plain: Incoming, now: float) -> Refused | None:
    """Why an authentic request would not have been a delivery: it only greets. None if it would."""
    compiled = source.compiled
    if any(compiled.greet(plain, now, before=before) is not None for before in (True, False)):
        return Refused("it was a greeting, which is answered at once or not at all: have the sender send it again")
    if plain.method not in compiled.methods:
        return Refused(f"a {plain.method} delivers nothing here")
    return None


def receipt_of(
    source: Source, kept: KeptRejection, request: Reopened, verified: Verified, *, by: str, now: float
) -> Receipt:
    """What is appended: as if it had been accepted, and a note of who admitted which refused request.

    Args:
        by: who admits it.
        now: Unix seconds.
    """
    arrival = Arrival(source, request.incoming, request.plain, request.raw, now, None)
    return accepted_receipt(arrival, verified, rejected=kept.id, admitted_by=by, received_at=received_at(kept))
