"""PayPal: RSA-SHA256 over `transmission id|time|webhook id|CRC-32 of the body`, by a certificate on PayPal's own host.

Promises: a CRC-32 is no protection of the body, because anyone can make another body with the same one; so a
transmission passes once: its id is the verdict's `nonce`, and whatever comes with the same id later is a duplicate.
The webhook id ties a transmission to this source: what PayPal signs for others, or its sandbox for anyone, fails.
"""

from __future__ import annotations

import re
import zlib
from datetime import datetime
from hashlib import blake2b

from cryptography.hazmat.primitives.hashes import SHA256

from ingest.verify.base import (
    NO_SECRET,
    Covered,
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verified,
    Verifier,
    Wanted,
    body_or_address,
    only,
    refuse_all,
)
from ingest.verify.pinned import public_key_at, signature_of, signed_by

RETRIES = 4 * 86400.0
"""Seconds that a transmission may be old. PayPal retries for three days and does not say that it signs anew."""

CERTIFICATE_URL = re.compile(r"https://api\.(?:sandbox\.)?paypal\.com/v1/notifications/certs/[A-Za-z0-9_-]{1,100}")
"""Where PayPal's certificates are, as a whole: hosts and path."""

_HEADERS = (
    b"paypal-transmission-id",
    b"paypal-transmission-time",
    b"paypal-transmission-sig",
    b"paypal-auth-algo",
    b"paypal-cert-url",
)
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})")
_WEBHOOK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class PayPal(Description, frozen=True, tag_field="scheme", tag="paypal"):
    """Option `webhook_id`. Sources: developer.paypal.com, "Integrate webhooks"; `WebhookEvent.verify` of PayPal's
    Python SDK, which allows SHA-1 too: we do not.
    """

    tolerance: float = RETRIES
    """Seconds, before and after now."""

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        if self.faults(site):
            return refuse_all("the source has no usable webhook_id")
        webhook_id, certificates, tolerance = site.options["webhook_id"], site.certificates, self.tolerance

        def verify(incoming: Incoming, now: float) -> Verification:
            found = _read(incoming)
            if isinstance(found, Refused):
                return found
            identifier, time, signature, url = found
            if (late := _check_time(time, tolerance, now)) is not None:
                return late
            key = public_key_at(url, certificates, now)
            if isinstance(key, Refused | Wanted):
                return key
            message = f"{identifier}|{time}|{webhook_id}|{zlib.crc32(incoming.body)}".encode()
            if not signed_by(key, signature, message, SHA256()):
                return Refused("the signature does not match")
            return Verified(NO_SECRET, blake2b(identifier.encode(), digest_size=16, person=b"paypal").digest())

        return verify

    def check_secret(self, secret: bytes) -> None:
        raise ValueError("expected no secret, because PayPal signs with its certificate, got one")

    def faults(self, site: Site) -> list[str]:
        given = site.options.get("webhook_id", "")
        if _WEBHOOK_ID.fullmatch(given):
            return []
        return [f"options.webhook_id: expected the webhook's id from PayPal's dashboard, got {given or 'nothing'}"]

    def covered(self) -> Covered:
        return lambda incoming: (*body_or_address(incoming), incoming.headers.get(_HEADERS[0], b""))

    def proof_headers(self) -> tuple[str, ...]:
        return tuple(name.decode() for name in _HEADERS)

    def summary(self) -> str:
        return "RSA-SHA256 of {id}|{time}|{webhook_id}|{crc32 of the body}, certificate at PayPal; an id passes once"

    @property
    def secretless(self) -> bool:
        return True


def _read(incoming: Incoming) -> tuple[str, str, bytes, str] | Refused:
    """Transmission id, time, signature and the certificate's address, each of them plausible."""
    values: list[str] = []
    for name in _HEADERS:
        value = only(incoming.headers, name)
        if isinstance(value, Refused):
            return value
        values.append(value.decode("ascii", "replace"))
    identifier, time, given, algorithm, url = values
    if algorithm.upper() != "SHA256WITHRSA":
        return Refused("header paypal-auth-algo is not SHA256withRSA")
    if not CERTIFICATE_URL.fullmatch(url):
        return Refused("header paypal-cert-url is not an address of PayPal's certificates")
    if not _ID.fullmatch(identifier) or not _TIME.fullmatch(time):
        return Refused("the transmission's id or time is malformed")
    return identifier, time, signature_of(given), url


def _check_time(time: str, tolerance: float, now: float) -> Refused | None:
    try:
        age = now - datetime.fromisoformat(time).timestamp()
    except ValueError:
        return Refused("the transmission's time is not a time")
    return None if abs(age) <= tolerance else Refused(f"the transmission's time is {abs(age):.0f} s from now")
