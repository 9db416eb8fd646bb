"""Takes a request apart for an `Hmac`: which signatures and time it carries, and what they were made over.

Promises: every part is bounded and unambiguous, or the request is `Refused`: where two parts of the signed text meet
without text between them, nobody can move the border.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ingest.verify.base import MOST_SIGNATURES, Incoming, Refused, only

if TYPE_CHECKING:  # a description compiles itself with what is here
    from ingest.verify.mac import Hmac, Pairs

PLACEHOLDER = re.compile(r"\{(\w*)\}")
_OF_A_URL = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")  # RFC 3986 §3.3 and §3.4

Found = tuple[list[bytes], bytes]
Reader = Callable[[Mapping[bytes, bytes]], Found | Refused]


def reader(scheme: Hmac) -> Reader:
    """Finds the signatures and the timestamp (empty where there is none beside the body) of a request."""
    signatures = _numbered_reader(scheme) if "{n}" in scheme.header else _single_reader(scheme)
    time_header = scheme.timestamp.header.lower().encode() if scheme.timestamp is not None else b""

    def read(headers: Mapping[bytes, bytes]) -> Found | Refused:
        found = signatures(headers)
        if isinstance(found, Refused) or not time_header:
            return found
        stamp = only(headers, time_header)
        return stamp if isinstance(stamp, Refused) else (found[0], stamp)

    return read


def _single_reader(scheme: Hmac) -> Reader:
    header, prefix = scheme.header.lower().encode(), scheme.prefix.encode()
    split = _pairs_reader(scheme.pairs) if scheme.pairs is not None else None
    no_prefix = Refused(f"header {header.decode()} does not begin with {scheme.prefix}")

    def read(headers: Mapping[bytes, bytes]) -> Found | Refused:
        value = only(headers, header)
        if isinstance(value, Refused):
            return value
        if not value.startswith(prefix):
            return no_prefix
        value = value[len(prefix) :]
        return ([value], b"") if split is None else split(value)

    return read


def _numbered_reader(scheme: Hmac) -> Reader:
    """Reads `X-Signature-1`, `X-Signature-2`, … up to the first that is missing. A repeated one is none."""
    names = [scheme.header.lower().replace("{n}", str(n)).encode() for n in range(1, MOST_SIGNATURES + 1)]
    prefix = scheme.prefix.encode()
    missing = Refused(f"header {names[0].decode()} is missing, came more than once, or is not a signature")

    def read(headers: Mapping[bytes, bytes]) -> Found | Refused:
        signatures: list[bytes] = []
        for name in names:
            if name not in headers:
                break
            value = only(headers, name)
            if not isinstance(value, Refused) and value.startswith(prefix):
                signatures.append(value[len(prefix) :])
        return (signatures, b"") if signatures else missing

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
    if pieces == ["", "body", ""]:
        return lambda incoming, stamp: incoming.body
    used = set(pieces[1::2])
    literals = [piece.encode() for piece in pieces]
    id_header, base = scheme.id_header.lower().encode(), url.encode()
    blurred = _blur_checker(pieces)
    id_swallows, query_swallows = _swallow_checker(pieces, "id"), _swallow_checker(pieces, "query", "url")
    swallowed = Refused(f"header {id_header.decode()} holds the separator of the signed text")

    def assemble(incoming: Incoming, stamp: bytes) -> bytes | Refused:
        if blurred(incoming) or query_swallows(incoming.query):
            return Refused("where the address ends in the signed text is ambiguous")
        values = {
            "body": incoming.body,
            "timestamp": stamp,
            "query": incoming.query,
            "url": base + b"?" + incoming.query if incoming.query else base,
            "path": incoming.path.encode("utf-8", "replace"),
            "method": incoming.method.encode("utf-8", "replace"),
        }
        if "id" in used:
            value = only(incoming.headers, id_header)
            if isinstance(value, Refused):
                return value
            if id_swallows(value):
                return swallowed
            values["id"] = value
        return b"".join([literals[i] if i % 2 == 0 else values[pieces[i]] for i in range(len(pieces))])

    return assemble


def _swallow_checker(pieces: list[str], *names: str) -> Callable[[bytes], bool]:
    """Whether a value holds the text that separates it from the parts beside it.

    It could swallow them otherwise: id `a.1` and id `a` could sign the same text.
    """
    places = [index for index in range(1, len(pieces), 2) if pieces[index] in names]
    after = {pieces[index + 1].encode() for index in places if index < len(pieces) - 2} - {b""}
    # What stands before the query of `{url}` is the URL itself.
    before = {pieces[index - 1].encode() for index in places if index > 1 and pieces[index] != "url"} - {b""}

    def swallows(value: bytes) -> bool:
        if any((value + text).find(text) < len(value) for text in after):
            return True
        return any((text + value).rfind(text) > 0 for text in before)

    return swallows


def _blur_checker(pieces: list[str]) -> Callable[[Incoming], bool]:
    """Whether a body that follows an address at once begins with what could be a part of the address, or the address
    holds what no address may.
    """
    addresses = [i for i in range(1, len(pieces), 2) if pieces[i] in {"url", "path", "query"}]
    borderless = any(pieces[i + 1 : i + 3] == ["", "body"] for i in addresses)
    with_path = any(pieces[i] == "path" for i in addresses)

    def blurred(incoming: Incoming) -> bool:
        if with_path and incoming.path.endswith("/"):  # which the same source would be found by
            return True
        if not borderless:
            return False
        return not _OF_A_URL.fullmatch(incoming.query) or bool(_OF_A_URL.fullmatch(incoming.body[:1] or b"{"))

    return blurred
