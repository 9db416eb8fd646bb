"""Signatures over `timestamp + body` by a private key of the sender's: Discord (ed25519), SendGrid (ECDSA P-256).

Promises: the timestamp is digits and the body does not begin with one, so that the border between the two, which
nothing marks, cannot be moved. Neither vendor documents how old a request may be, nor that a retry is signed anew, so
no age is checked: a repetition has the same body and thus the same dedup keys, for ever.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Callable
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ingest.verify.base import (
    Covered,
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verified,
    Verifier,
    body_or_address,
    only,
    refuse_all,
)

MOST_SIGNATURE = 256
"""Characters. An encoded signature of either kind has at most 128."""
MOST_STAMP = 16
"""Digits."""

_Check = Callable[[bytes, bytes], None]
"""(raw signature, message); raises InvalidSignature."""
_PEM = (b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----")


class PublicKey(Description, frozen=True, tag_field="scheme", tag="public_key"):
    """The "secrets" are the sender's public keys: for ed25519 32 bytes in hex, for P-256 base64 of the DER or PEM.

    Sources: docs.discord.com, "Validating Security Request Headers"; `sendgrid.helpers.eventwebhook` of SendGrid's
    Python SDK 6.12.
    """

    algorithm: Literal["ed25519", "p256"]
    header: str
    """The signature's: hex for ed25519, base64 of the DER for P-256."""
    timestamp: str
    """The header with the time of signing."""

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        checks: list[tuple[Verified, _Check]] = []
        for index, secret in enumerate(secrets):
            with contextlib.suppress(ValueError):
                checks.append((Verified(index), _check(self.algorithm, secret)))
        if not checks:
            return refuse_all("the source has no usable public key")
        header, timestamp = self.header.lower().encode(), self.timestamp.lower().encode()
        decode = binascii.unhexlify if self.algorithm == "ed25519" else _from_base64

        def verify(incoming: Incoming, now: float) -> Verification:
            given = only(incoming.headers, header)
            if isinstance(given, Refused):
                return given
            message = _signed(incoming, timestamp)
            if isinstance(message, Refused):
                return message
            try:
                signature = decode(given) if len(given) <= MOST_SIGNATURE else b""
            except ValueError:
                signature = b""
            return _first_match(checks, signature, message)

        return verify

    def check_secret(self, secret: bytes) -> None:
        _check(self.algorithm, secret)

    def covered(self) -> Covered:
        # No signature: that of ECDSA can be varied by anyone (s and n - s both pass).
        timestamp = self.timestamp.lower().encode()
        return lambda incoming: (*body_or_address(incoming), incoming.headers.get(timestamp, b""))

    def proof_headers(self) -> tuple[str, ...]:
        return (self.timestamp, self.header)

    def summary(self) -> str:
        name = {"ed25519": "Ed25519", "p256": "ECDSA P-256"}[self.algorithm]
        return f"{name} of {{timestamp}}{{body}}, in {self.header}"


def _signed(incoming: Incoming, timestamp: bytes) -> bytes | Refused:
    stamp = only(incoming.headers, timestamp)
    if isinstance(stamp, Refused):
        return stamp
    if not stamp.isdigit() or len(stamp) > MOST_STAMP:
        return Refused("the timestamp is not a whole number")
    if incoming.body[:1].isdigit():
        return Refused("the body begins with a digit, which could be the timestamp's")
    return stamp + incoming.body


def _first_match(checks: list[tuple[Verified, _Check]], signature: bytes, message: bytes) -> Verification:
    for verified, check in checks:
        try:
            check(signature, message)
        except InvalidSignature:
            continue
        return verified
    return Refused("no signature matches")


def _check(algorithm: Literal["ed25519", "p256"], secret: bytes) -> _Check:
    """What verifies with one key.

    Raises:
        ValueError: it is no such key, as "expected …, got …".
    """
    if algorithm == "ed25519":
        try:
            return Ed25519PublicKey.from_public_bytes(binascii.unhexlify(secret.strip())).verify
        except ValueError:
            raise ValueError("expected a public key of 64 hexadecimal digits, got something else") from None
    try:
        key = load_der_public_key(_from_base64(b"".join(_unwrapped(secret).split())))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("expected a public key in base64 (DER), got something else") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("expected a public key on the curve P-256, got another kind")
    return lambda signature, message: key.verify(signature, message, ECDSA(SHA256()))


def _unwrapped(secret: bytes) -> bytes:
    return secret.strip().removeprefix(_PEM[0]).removesuffix(_PEM[1])


def _from_base64(text: bytes) -> bytes:
    return base64.b64decode(text, validate=True)
