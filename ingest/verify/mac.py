"""HMAC signatures described as data: one form for GitHub, Stripe, Slack, DocuSign, Zendesk and whoever signs like them.

Promises: what `Hmac.faults` lets pass authenticates the body, and the time wherever a time is checked; no part of what
is signed can be taken for another part of it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import Literal

import msgspec

from ingest.verify.base import TOLERANCE, Covered, Description, Site, Verified, Verifier, refuse_all
from ingest.verify.mac_check import compile_hmac
from ingest.verify.mac_covered import covered_by_hmac
from ingest.verify.mac_faults import hmac_faults

NUMBER = "{n}"
"""What stands in the name of a header for 1, 2, 3, …, where a sender puts one signature per key."""


class Timestamp(msgspec.Struct, frozen=True):
    """Where the time of signing stands and how old it may be."""

    header: str = ""
    """Empty where the time is one of the `Pairs` of the signature header, or stands at `pointer`."""
    unit: Literal["s", "ms", "iso8601"] = "s"
    tolerance: float = TOLERANCE
    """Seconds, before and after now."""
    pointer: str = ""
    """A JSON Pointer to the time in the signed body; then `{timestamp}` is not signed beside it."""


class Pairs(msgspec.Struct, frozen=True):
    """A signature header of the form `t=1614265330,v1=5257…[,v1=…]`: any signature of that name may match."""

    separator: str = ","
    signature: str = "v1"
    timestamp: str = ""


class Hmac(Description, frozen=True, tag_field="scheme", tag="hmac"):
    """How a sender signs with HMAC (RFC 2104)."""

    header: str
    """The signature's. With `{n}` in it: any of the headers that are named by 1 to 16 may match."""
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    prefix: str = ""
    """What stands before the signature in the header, for example `sha256=`."""
    signed: str = "{body}"
    """What is signed: text with `mac_faults.PLACEHOLDERS`. `{url}` is the source's public URL and the request's
    query, `{path}` and `{query}` are what the request has, undecoded.
    """
    timestamp: Timestamp | None = None
    pairs: Pairs | None = None
    id_header: str = ""
    """The header that `{id}` stands for."""
    key: Literal["text", "hex", "base64"] = "text"
    """How a secret becomes the key: its own bytes, or what they encode."""

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        if self.faults(site):
            return refuse_all("the source's signature scheme is not usable")
        keys: list[tuple[Verified, bytes]] = []
        for index, secret in enumerate(secrets):
            with contextlib.suppress(ValueError):
                keys.append((Verified(index), hmac_key(self, secret)))
        if not keys:
            return refuse_all("the source has no usable secret")
        return compile_hmac(self, keys, site.url)

    def check_secret(self, secret: bytes) -> None:
        hmac_key(self, secret)

    def faults(self, site: Site) -> list[str]:
        return hmac_faults(self, site.url)

    def covered(self) -> Covered:
        return covered_by_hmac(self)

    def proof_headers(self) -> tuple[str, ...]:
        time = self.timestamp.header if self.timestamp is not None else ""
        signature = "" if NUMBER in self.header else self.header
        return tuple(name for name in (time, signature, self.id_header) if name)

    def summary(self) -> str:
        return f"HMAC-{self.algorithm.upper()} of {self.signed}, {self.encoding}, in {self.header}"


def hmac_key(scheme: Hmac, secret: bytes) -> bytes:
    """The key that a secret stands for.

    Raises:
        ValueError: it is blank, or not what `scheme.key` says. The message does not hold it.
    """
    key = secret
    try:
        match scheme.key:
            case "hex":
                key = binascii.unhexlify(secret.strip())
            case "base64":
                key = base64.b64decode(secret.strip(), validate=True)
            case "text":
                pass
    except ValueError:
        raise ValueError(f"expected a key in {scheme.key}, got something else") from None
    if not key.strip():
        raise ValueError("expected a secret, got a blank one")
    return key
