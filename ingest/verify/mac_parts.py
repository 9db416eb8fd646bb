"""Takes a request apart for an `Hmac`: which signatures and time it carries, and what they were made over.

Promises: every part is bounded and unambiguous, or the request is `Refused`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ingest.verify.base import MOST_SIGNATURES, Incoming, Refused, only

if TYPE_CHECKING:  # a description compiles itself with what is here
    from ingest.verify.mac import Hmac, Pairs

PLACEHOLDER = re.compile(r"\{(\w*)\}")

Found = tuple[list[bytes], bytes]
Reader = Callable[[Mapping[bytes, bytes]], Found | Refused]


def reader(scheme: Hmac) -> Reader:
    """Finds the signatures and the timestamp (empty where there is none) of a request."""
    header, prefix = scheme.header.lower().encode(), scheme.prefix.encode()
    time_header = scheme.timestamp.header.lower().encode() if scheme.timestamp is not None else b""
    split = _pairs_reader(scheme.pairs) if scheme.pairs is not None else None

    def read(headers: Mapping[bytes, bytes]) -> Found | Refused:
        value = only(headers, header)
        if isinstance(value, Refused):
            return value
        if not value.startswith(prefix):
            return Refused(f"header {header.decode()} does not begin with {scheme.prefix}")
        value = value[len(prefix) :]
        found = ([value], b"") if split is None else split(value)
        if isinstance(found, Refused) or not time_header:
            return found
        stamp = only(headers, time_header)
        return stamp if isinstance(stamp, Refused) else (found[0], stamp)

    return read


def _pairs_reader(pairs: Pairs) -> Callable[[bytes], Found | Refused]:
    separator, name_of_signature = pairs.separator.encode(), pairs.signature.encode()
    name_of_timestamp = pairs.timestamp.encode()

    def split(value: bytes) -> Found | Refused:
        signatures: list[bytes] = []
        stamps: list[bytes] = []
        for pair in value.split(separator, MOST_SIGNATURES):
            name, _, text = pair.strip(b" ").partition(b"=")
            if name == name_of_signature:
                signatures.append(text)
            elif name_of_timestamp and name == name_of_timestamp:
                stamps.append(text)
        if not signatures:
            return Refused(f"the signature header holds no {pairs.signature}")
        if name_of_timestamp and len(stamps) != 1:
            return Refused(f"the signature header holds {len(stamps)} timestamps; one is expected")
        return signatures, stamps[0] if stamps else b""

    return split


def assembler(scheme: Hmac, url: str) -> Callable[[Incoming, bytes], bytes | Refused]:
    """Puts together what is signed."""
    pieces = PLACEHOLDER.split(scheme.signed)  # literal, name, literal, name, …, literal
    used = set(pieces[1::2])
    if pieces == ["", "body", ""]:
        return lambda incoming, stamp: incoming.body
    literals = [piece.encode() for piece in pieces]
    id_header = scheme.id_header.lower().encode()
    # An id that holds its separator could swallow what follows: id `a.1` and id `a` could sign the same text.
    delimiter = literals[2 * pieces[1::2].index("id") + 2] if "id" in used else b""
    base = url.encode()

    def assemble(incoming: Incoming, stamp: bytes) -> bytes | Refused:
        values = {"body": incoming.body, "timestamp": stamp}
        if "id" in used:
            value = only(incoming.headers, id_header)
            if isinstance(value, Refused):
                return value
            if delimiter and delimiter in value:
                return Refused(f"header {id_header.decode()} holds the separator of the signed text")
            values["id"] = value
        if "method" in used:
            values["method"] = incoming.method.encode("utf-8", "replace")
        if "url" in used:
            values["url"] = base + b"?" + incoming.query if incoming.query else base
        return b"".join([literals[i] if i % 2 == 0 else values[pieces[i]] for i in range(len(pieces))])

    return assemble
