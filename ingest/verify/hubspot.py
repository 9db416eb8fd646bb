"""HubSpot, signature version 3: HMAC over method, URL, body and time, the URL with some of its escapes undone.

Promises: the border between URL and body, which nothing marks, cannot be moved: the body is JSON or empty, and neither
the path nor the query holds a bracket or a brace outside an escape.
"""

from __future__ import annotations

import base64
import hmac
import re

from ingest.verify.base import (
    TOLERANCE,
    Covered,
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verified,
    Verifier,
    check_age,
    only,
    refuse_all,
)

_SIGNATURE, _TIME = b"x-hubspot-signature-v3", b"x-hubspot-request-timestamp"
_ESCAPES = {
    b"%3A": b":",
    b"%2F": b"/",
    b"%3F": b"?",
    b"%40": b"@",
    b"%21": b"!",
    b"%24": b"$",
    b"%27": b"'",
    b"%28": b"(",
    b"%29": b")",
    b"%2A": b"*",
    b"%2C": b",",
    b"%3B": b";",
}
_ESCAPE = re.compile(b"|".join(_ESCAPES), re.IGNORECASE)
_BORDER = re.compile(rb"[\[{]")


class HubSpot(Description, frozen=True, tag_field="scheme", tag="hubspot"):
    """Base64 HMAC-SHA256 in `X-HubSpot-Signature-v3`; the secret is the app's client secret.

    Sources: developers.hubspot.com, "Validating requests" (the twelve escapes); `hubspot.utils.signature` of HubSpot's
    Python client 12.0.
    """

    tolerance: float = TOLERANCE
    """Seconds, before and after now; HubSpot's own."""

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        if self.faults(site):
            return refuse_all("the source's public url is not usable")
        keys = [(Verified(index), secret) for index, secret in enumerate(secrets) if secret.strip()]
        if not keys:
            return refuse_all("the source has no usable secret")
        url, tolerance = _unescaped(site.url.encode()), self.tolerance
        mismatch = Refused("no signature matches")

        def verify(incoming: Incoming, now: float) -> Verification:
            given = only(incoming.headers, _SIGNATURE)
            if isinstance(given, Refused):
                return given
            stamp = only(incoming.headers, _TIME)
            if isinstance(stamp, Refused):
                return stamp
            if (late := check_age(stamp, 1000, tolerance, now)) is not None:
                return late
            if _BORDER.search(incoming.query) or (incoming.body and not _BORDER.match(incoming.body)):
                return Refused("the body is not JSON from its first character, or the query looks like a body")
            query = b"?" + _unescaped(incoming.query) if incoming.query else b""
            message = b"".join((incoming.method.encode("utf-8", "replace"), url, query, incoming.body, stamp))
            for verified, key in keys:
                if hmac.compare_digest(given, base64.b64encode(hmac.digest(key, message, "sha256"))):
                    return verified
            return mismatch

        return verify

    def faults(self, site: Site) -> list[str]:
        if site.url and not _BORDER.search(site.url.encode()):
            return []
        return [f"url: expected the public address as HubSpot is given it (https://…), got {site.url or 'nothing'}"]

    def covered(self) -> Covered:
        return _covered

    def proof_headers(self) -> tuple[str, ...]:
        return ("X-HubSpot-Request-Timestamp", "X-HubSpot-Signature-v3")

    def summary(self) -> str:
        return "HMAC-SHA256 of {method}{url}{body}{timestamp}, base64, in X-HubSpot-Signature-v3"


def _covered(incoming: Incoming) -> tuple[bytes, ...]:
    stamp, method = incoming.headers.get(_TIME, b""), incoming.method.encode("utf-8", "replace")
    return (b"hash", incoming.body, stamp, method, _unescaped(incoming.query))


def _unescaped(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: _ESCAPES[found[0].upper()], text)
