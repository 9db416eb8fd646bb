"""Standard Webhooks 1.0.0 (Svix and many others): `{id}.{timestamp}.{body}` under HMAC-SHA256 or ed25519.

Promises: id, timestamp and signature are read from one family of headers, `webhook-*` or else `svix-*`, never
from a mix: the id that is verified is the id that `ingest.identity` deduplicates by.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ingest.verify.base import (
    MOST_SIGNATURES,
    TOLERANCE,
    Covered,
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verified,
    Verifier,
    body_or_address,
    check_age,
    only,
    refuse_all,
)

MOST_PUBLIC_SIGNATURES = 4
"""How many ed25519 signatures of one request are tried, for each of which the whole message is hashed anew."""

_WEBHOOK = (b"webhook-id", b"webhook-timestamp", b"webhook-signature")
_SVIX = (b"svix-id", b"svix-timestamp", b"svix-signature")


class Standard(Description, frozen=True, tag_field="scheme", tag="standard"):
    """Standard Webhooks. Secrets: `whsec_<base64>` (or the base64 alone), `whpk_<base64>` (ed25519)."""

    tolerance: float = TOLERANCE
    """Seconds, before and after now."""

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        keys: list[tuple[Verified, bytes | Ed25519PublicKey]] = []
        for index, secret in enumerate(secrets):
            with contextlib.suppress(ValueError):
                keys.append((Verified(index), standard_key(secret)))
        if not keys:
            return refuse_all("the source has no usable secret")
        tolerance = self.tolerance
        mismatch = Refused("no signature matches")

        def verify(incoming: Incoming, now: float) -> Verification:
            found = _read(incoming.headers)
            if isinstance(found, Refused):
                return found
            identifier, stamp, tokens = found
            if (late := check_age(stamp, 1, tolerance, now)) is not None:
                return late
            message = b"%b.%b.%b" % (identifier, stamp, incoming.body)
            for verified, key in keys:
                if _matches(key, message, tokens):
                    return verified
            return mismatch

        return verify

    def check_secret(self, secret: bytes) -> None:
        standard_key(secret)

    def covered(self) -> Covered:
        return _covered

    def proof_headers(self) -> tuple[str, ...]:
        return tuple(name.decode() for name in (*_WEBHOOK, *_SVIX))

    def summary(self) -> str:
        return "Standard Webhooks: HMAC-SHA256 or ed25519 of id, time and body"


def standard_key(secret: bytes) -> bytes | Ed25519PublicKey:
    """The key that a secret stands for: bytes for HMAC, a public key for ed25519.

    Raises:
        ValueError: it is blank, not base64, or not 32 bytes after `whpk_`. The message does not hold it.
    """
    text = secret.strip()
    public = text.startswith(b"whpk_")
    encoded = text.removeprefix(b"whpk_").removeprefix(b"whsec_")
    try:
        key = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        raise ValueError("expected whsec_ or whpk_ and base64, got something else") from None
    if not key:
        raise ValueError("expected a secret, got a blank one")
    if not public:
        return key
    try:
        return Ed25519PublicKey.from_public_bytes(key)
    except ValueError:
        raise ValueError(f"expected 32 bytes after whpk_, got {len(key)}") from None


def _read(headers: Mapping[bytes, bytes]) -> tuple[bytes, bytes, list[bytes]] | Refused:
    """Id, timestamp and signatures, all of one family."""
    id_name, stamp_name, signature_name = _WEBHOOK if b"webhook-id" in headers else _SVIX
    if isinstance(identifier := only(headers, id_name), Refused):
        return identifier
    if isinstance(stamp := only(headers, stamp_name), Refused):
        return stamp
    if isinstance(given := only(headers, signature_name), Refused):
        return given
    if b"." in identifier:  # the specification's own warning: such an id could swallow the timestamp
        return Refused(f"header {id_name.decode()} holds a full stop")
    return identifier, stamp, given.split(b" ", MOST_SIGNATURES)[:MOST_SIGNATURES]


def _covered(incoming: Incoming) -> tuple[bytes, ...]:
    found = _read(incoming.headers)
    beside = () if isinstance(found, Refused) else found[:2]
    return (*body_or_address(incoming), *beside)


def _matches(key: bytes | Ed25519PublicKey, message: bytes, tokens: list[bytes]) -> bool:
    if isinstance(key, bytes):
        expected = b"v1," + base64.b64encode(hmac.digest(key, message, "sha256"))
        return any(hmac.compare_digest(token, expected) for token in tokens)
    of_public_keys = [token for token in tokens if token.startswith(b"v1a,")]
    return any(_signed_by(key, message, token) for token in of_public_keys[:MOST_PUBLIC_SIGNATURES])


def _signed_by(key: Ed25519PublicKey, message: bytes, token: bytes) -> bool:
    try:
        key.verify(base64.b64decode(token[4:], validate=True), message)
    except (ValueError, InvalidSignature):
        return False
    return True
