"""Twilio: HMAC over the public URL and the sorted form parameters, or over a URL that holds the body's hash.

Promises: every byte that a workflow will read is covered. A form's parameters are signed by name and value; any other
body passes only if its SHA-256 stands in the query, which the signature covers as a part of the URL. What a stranger
makes us do is linear in the query and in a form of at most `MOST_BYTES`. Nothing separates
the signed names and values, so whoever has recorded a request can move the border between a name and its value:
that is Twilio's construction, and the reason to keep the URL to HTTPS.
"""

from __future__ import annotations

import base64
import hmac
import re
from hashlib import sha256

from events.content_forms import MOST_FIELDS, pairs, unquoted
from ingest.verify.base import (
    Covered,
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verified,
    Verifier,
    only,
    refuse_all,
)

MOST_PARAMETERS = MOST_FIELDS
"""Of a form or a query. Twilio sends some dozens; more are refused before they are taken apart."""
MOST_BYTES = 1 << 20
"""Of a form, which is taken apart before anyone knows who sent it. Twilio's have a few kilobytes."""

_SIGNATURE, _SETTINGS = b"x-twilio-signature", b"x-twilio-webhooks-signature-settings"
_FORM = b"application/x-www-form-urlencoded"
_ALGORITHMS = {b"HMAC_SHA1": "sha1", b"HMAC_SHA256": "sha256"}
_ORIGIN = re.compile(r"(https?)://([^/?#\[\]:]+|\[[^/?#\[\]]+\])(:[0-9]+)?(/[^?#]*)?", re.IGNORECASE)


class Twilio(Description, frozen=True, tag_field="scheme", tag="twilio"):
    """As `twilio.request_validator` of Twilio's Python SDK 9.13 and `validateIncomingRequest` of its Node SDK do it.

    The secret is the account's auth token, or the shared key that `X-Twilio-Webhooks-Signature-Settings` says: that
    header also says the algorithm, HMAC-SHA1 without it. There is no timestamp: a repetition is caught by its id, or
    by what is signed.
    """

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        if self.faults(site):
            return refuse_all("the source's public url is not usable")
        keys = [(Verified(index), secret) for index, secret in enumerate(secrets) if secret.strip()]
        if not keys:
            return refuse_all("the source has no usable secret")
        urls = [url.encode() for url in _with_and_without_port(site.url)]
        mismatch = Refused("no signature matches")

        def verify(incoming: Incoming, now: float) -> Verification:
            given = only(incoming.headers, _SIGNATURE)
            if isinstance(given, Refused):
                return given
            algorithm = _algorithm(incoming)
            if isinstance(algorithm, Refused):
                return algorithm
            parameters = _parameters(incoming)
            if isinstance(parameters, Refused):
                return parameters
            rest = (b"?" + incoming.query if incoming.query else b"") + parameters
            for verified, key in keys:
                for url in urls:
                    expected = base64.b64encode(hmac.digest(key, url + rest, algorithm))
                    if hmac.compare_digest(given, expected):
                        return verified
            return mismatch

        return verify

    def faults(self, site: Site) -> list[str]:
        if _ORIGIN.fullmatch(site.url):
            return []
        return [f"url: expected the public address as Twilio is given it (https://…), got {site.url or 'nothing'}"]

    def covered(self) -> Covered:
        return _covered

    def proof_headers(self) -> tuple[str, ...]:
        return (_SIGNATURE.decode(), _SETTINGS.decode())

    def summary(self) -> str:
        return "HMAC-SHA1 or -SHA256 of URL and parameters, base64, in X-Twilio-Signature"


def _with_and_without_port(url: str) -> list[str]:
    """Twilio signs either, and its SDKs try both: any port is left out, a missing one is the scheme's."""
    found = _ORIGIN.fullmatch(url)
    assert found is not None
    scheme, host, port, path = found[1], found[2], found[3], found[4] or ""
    standard = ":443" if scheme.lower() == "https" else ":80"
    return [f"{scheme}://{host}{path}", f"{scheme}://{host}{port or standard}{path}"]


def _algorithm(incoming: Incoming) -> str | Refused:
    if _SETTINGS not in incoming.headers:
        return "sha1"
    settings = only(incoming.headers, _SETTINGS)
    if isinstance(settings, Refused):
        return settings
    for part in settings.split(b",", 8):
        name, _, value = part.partition(b"=")
        if name.strip() == b"algorithm":
            return _ALGORITHMS.get(value.strip().upper()) or Refused("the signature's algorithm is not supported")
    return "sha1"


def _covered(incoming: Incoming) -> tuple[bytes, ...]:
    """The signed text but for the source's own URL: neither the method nor the order of parameters is signed."""
    parameters = _parameters(incoming)
    return (b"hash", incoming.body if isinstance(parameters, Refused) else parameters, incoming.query)


def _parameters(incoming: Incoming) -> bytes | Refused:
    """What is signed after the URL. Refused: the signature would not cover the body."""
    hashes = _pairs(incoming.query)
    if isinstance(hashes, Refused):
        return hashes
    given = [value for name, value in hashes if name == b"bodySHA256"]
    if given:  # as in the Node SDK, this decides and not the content type, which nobody signed
        expected = sha256(incoming.body).hexdigest().encode()
        if len(given) > 1 or not hmac.compare_digest(given[0].lower(), expected):
            return Refused("the body's hash is not the one in the URL")
        return b""
    if not incoming.body:
        return b""
    media_type = incoming.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != _FORM:
        return Refused("the body is neither a form nor hashed in the URL, so nothing signs it")
    return _form(incoming.body)


def _form(body: bytes) -> bytes | Refused:
    if len(body) > MOST_BYTES:
        return Refused(f"the form has {len(body)} bytes; at most {MOST_BYTES} are accepted")
    found = _pairs(body)
    return found if isinstance(found, Refused) else b"".join([name + value for name, value in sorted(set(found))])


def _pairs(text: bytes) -> list[tuple[bytes, bytes]] | Refused:
    """Names and values, decoded, equal pairs not yet dropped. Sorted as bytes they are sorted as code points."""
    found = pairs(text) if text.isascii() else None
    if found is None:
        return Refused("the parameters cannot be read")
    return [(unquoted(name), unquoted(value)) for name, value in found]
