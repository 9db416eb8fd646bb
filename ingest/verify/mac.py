"""HMAC signatures described as data: one form for GitHub, Stripe, Slack, Shopify and whoever signs like them.

Promises: what `Hmac.faults` lets pass authenticates the body, and the time wherever a time is checked.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import Literal

import msgspec

from ingest.verify.base import TOLERANCE, Description, Site, Verified, Verifier, refuse_all
from ingest.verify.mac_check import compile_hmac
from ingest.verify.mac_parts import PLACEHOLDER

MOST_TOLERANCE = 7 * 86400.0
"""Seconds. Longer than any sender retries; a recorded request that is older never passes."""

PLACEHOLDERS = ("body", "timestamp", "id", "method", "url")


class Timestamp(msgspec.Struct, frozen=True):
    """Where the time of signing stands and how old it may be."""

    header: str = ""
    """Empty where the time is one of the `Pairs` of the signature header."""
    unit: Literal["s", "ms"] = "s"
    tolerance: float = TOLERANCE
    """Seconds, before and after now."""


class Pairs(msgspec.Struct, frozen=True):
    """A signature header of the form `t=1614265330,v1=5257…[,v1=…]`: any signature of that name may match."""

    separator: str = ","
    signature: str = "v1"
    timestamp: str = ""


class Hmac(Description, frozen=True, tag_field="scheme", tag="hmac"):
    """How a sender signs with HMAC."""

    header: str
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    prefix: str = ""
    """What stands before the signature in the header, for example `sha256=`."""
    signed: str = "{body}"
    """What is signed: text with `PLACEHOLDERS`. `{url}` is the source's public URL and the request's query.
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
        return _faults(self, site.url)

    def signed_headers(self) -> tuple[str, ...]:
        time = self.timestamp.header if self.timestamp is not None else ""
        return (time, self.header) if time else (self.header,)

    def summary(self) -> str:
        return f"HMAC-{self.algorithm.upper()} of {self.signed}, {self.encoding}, in {self.header}"


def _faults(scheme: Hmac, url: str) -> list[str]:
    used = PLACEHOLDER.findall(scheme.signed)
    faults = [
        f"signed: expected only {{{'}, {'.join(PLACEHOLDERS)}}}, got {{{name}}}"
        for name in used
        if name not in PLACEHOLDERS
    ]
    if "body" not in used:
        faults.append("signed: expected {body} in it, or the body could be altered at will, got none")
    if "timestamp" in used and scheme.timestamp is None:
        faults.append("timestamp: expected a header, because signed has {timestamp}, got nothing")
    if scheme.timestamp is not None and "timestamp" not in used:
        faults.append("signed: expected {timestamp} in it, or the time could be altered at will, got none")
    if scheme.timestamp is not None and not 0 < scheme.timestamp.tolerance <= MOST_TOLERANCE:
        got = f"{scheme.timestamp.tolerance:g} s"
        faults.append(f"timestamp.tolerance: expected more than 0 s and at most a week, got {got}")
    if "id" in used and not scheme.id_header:
        faults.append("signed: expected no {id}, because the source's id is not one header, got {id}")
    if "url" in used and not url:
        faults.append("signed: expected no {url}, because the source has no public url, got {url}")
    return faults


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
