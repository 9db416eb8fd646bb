"""Verifies what an `Hmac` describes.

Promises: a signature passes only if it equals, byte for byte and in constant time, the HMAC of what the
description says is signed, by one of the secrets. Comparison is on the encoded text, so that a signature has
at most two accepted spellings (hex in lower or in upper case, base64 with or without its padding) and cannot
be varied to look new.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING

from ingest.verify.base import Incoming, Refused, Verification, Verified, Verifier
from ingest.verify.mac_parts import assembler, reader
from ingest.verify.mac_time import time_check

if TYPE_CHECKING:  # a description compiles itself with what is here
    from ingest.verify.mac import Hmac


def compile_hmac(scheme: Hmac, keys: list[tuple[Verified, bytes]], url: str) -> Verifier:
    """The verifier of one source, whose description has no faults.

    Args:
        keys: at least one, each with the verdict that its match gives.
        url: the source's public URL, or empty.
    """
    read, assemble, encode = reader(scheme), assembler(scheme, url), _ENCODE[scheme.encoding]
    canonical = _lower_hex if scheme.encoding == "hex" else _padded
    algorithm = scheme.algorithm
    untimely, untimely_body = time_check(scheme.timestamp)
    mismatch = Refused("no signature matches")

    def verify(incoming: Incoming, now: float) -> Verification:
        found = read(incoming.headers)
        if isinstance(found, Refused):
            return found
        signatures, stamp = found
        if untimely is not None and (late := untimely(stamp, now)) is not None:
            return late
        message = assemble(incoming, stamp)
        if isinstance(message, Refused):
            return message
        given = [canonical(signature) for signature in signatures]
        for verified, key in keys:
            expected = encode(hmac.digest(key, message, algorithm))
            for signature in given:
                if hmac.compare_digest(signature, expected):
                    # What stands in the body is read once the body is known to be the sender's.
                    late = untimely_body(incoming.body, now) if untimely_body is not None else None
                    return verified if late is None else late
        return mismatch

    return verify


def _lower_hex(given: bytes) -> bytes:
    return given.lower() if given.isupper() else given


def _padded(given: bytes) -> bytes:
    return given if given.endswith(b"=") else given + b"=" * (-len(given) % 4)


_ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "hex": binascii.hexlify,
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
}
