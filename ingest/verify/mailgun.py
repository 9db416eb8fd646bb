"""Mailgun: the JSON body carries `signature{timestamp, token, signature}`, an HMAC over timestamp and token alone.

Promises: since nothing signs the rest of the body, a token passes once: it is the verdict's `nonce`, and whatever comes
with the same token later is a duplicate, however it was altered. The signature stands in the body, so a stranger's body
is read too: only one of at most `MOST_BYTES`, of which nothing but the signature is kept. Someone who learns a token
before its delivery has come in can still send another body with it: HTTPS alone keeps that from happening.
"""

from __future__ import annotations

import binascii
import hmac
from hashlib import blake2b

import msgspec

from ingest.verify.base import (
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verified,
    Verifier,
    check_age,
    refuse_all,
)

RETRIES = 12 * 3600.0
"""Seconds that a timestamp may be old. Mailgun retries for eight hours and does not say that it signs anew (those who
have watched it say that it does not); the rest is for its queues and our clocks.
"""
MOST_TOKEN = 256
"""Characters of a token; Mailgun's have 50."""
MOST_BYTES = 4 << 20
"""Of a body. An event has a few kilobytes, with the headers of a message some dozens."""


class _Signature(msgspec.Struct):
    timestamp: str | int
    token: str
    signature: str
    parent: str = msgspec.field(default="", name="parent-signature")


class _Body(msgspec.Struct):
    signature: _Signature


_decode = msgspec.json.Decoder(_Body).decode


class Mailgun(Description, frozen=True, tag_field="scheme", tag="mailgun"):
    """Hex HMAC-SHA256 of `timestamp + token`; the secret is the HTTP webhook signing key.

    An event of a subaccount has a `parent-signature` by the primary account's key too; either passes. Source:
    documentation.mailgun.com, "Securing Webhooks" and "Webhook Retries".
    """

    tolerance: float = RETRIES
    """Seconds, before and after now."""

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        keys = [(index, secret) for index, secret in enumerate(secrets) if secret.strip()]
        if not keys:
            return refuse_all("the source has no usable secret")
        tolerance = self.tolerance

        def verify(incoming: Incoming, now: float) -> Verification:
            if len(incoming.body) > MOST_BYTES:
                return Refused(f"the body has {len(incoming.body)} bytes; at most {MOST_BYTES} are accepted")
            try:
                signed = _decode(incoming.body).signature
                stamp, token = str(signed.timestamp).encode(), signed.token.encode()
            except (msgspec.MsgspecError, ValueError, RecursionError):
                return Refused("the body holds no signature with timestamp, token and signature")
            if (late := check_age(stamp, 1, tolerance, now)) is not None:
                return late
            if not 0 < len(token) <= MOST_TOKEN:
                return Refused("the token is empty or too long")
            given = [text.lower().encode("utf-8", "replace") for text in (signed.signature, signed.parent)]
            for index, key in keys:
                expected = binascii.hexlify(hmac.digest(key, stamp + token, "sha256"))
                for signature in given:
                    if hmac.compare_digest(signature, expected):
                        return Verified(index, blake2b(token, digest_size=16, person=b"mailgun").digest())
            return Refused("no signature matches")

        return verify

    def summary(self) -> str:
        return "HMAC-SHA256 of timestamp and token, hex, in the JSON body; a token passes once"
