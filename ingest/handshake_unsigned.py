"""Greetings that nothing signs, answered before verification: whoever knows the address can ask.

Promises: no answer tells anything that helps to forge a delivery. Meta's needs a token that only Meta was told; X's is
an HMAC by the key that signs deliveries, over a text that can be no delivery (see `ingest.verify.objects`).
"""

from __future__ import annotations

import base64
import hmac
import re
from urllib.parse import parse_qsl

from ingest.handshakes import MOST_CHALLENGE, NOSNIFF, TEXT, Answer, Handshake, Keys, json_answer
from ingest.verify.base import Incoming, Refused, only

MOST_QUERY = 8192
"""Bytes of a query that greets."""

_PLAIN = re.compile(r"[A-Za-z0-9_.~+/=:-]+")
"""The characters of challenges that are given back as text, or signed: no brace, bracket, quote or blank."""
_ORIGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,254}")
_RATE = re.compile(r"[1-9][0-9]{0,8}|\*")


def answer_meta(incoming: Incoming, keys: Keys) -> Answer | None:
    """Gives the challenge back to who knows the verify token, one of the secrets with `for: handshake`.

    Source: developers.facebook.com, Graph API, "Webhooks: Getting Started", "Verification Requests".
    """
    if incoming.method != "GET":
        return None
    asked = _parameters(incoming.query)
    challenge = asked.get("hub.challenge", "")
    if asked.get("hub.mode") != "subscribe" or not _fits(challenge):
        return None
    given = asked.get("hub.verify_token", "").encode("utf-8", "replace")
    known = [hmac.compare_digest(given, token) for token in keys.handshake if token.strip()]
    return Answer("meta.subscribe", headers=TEXT, body=challenge.encode()) if any(known) else None


def answer_x(incoming: Incoming, keys: Keys) -> Answer | None:
    """The challenge-response check: the token's HMAC by the first secret, the one that is to stay.

    Source: docs.x.com, Webhooks, "The CRC check". Nothing signs the question, and the answer has the very form of a
    delivery's signature, hence `_PLAIN`.
    """
    if incoming.method != "GET" or not keys.signing:
        return None
    token = _parameters(incoming.query).get("crc_token", "")
    if not _fits(token):
        return None
    digest = hmac.digest(keys.signing[0], token.encode(), "sha256")
    return json_answer("x.crc", {"response_token": "sha256=" + base64.b64encode(digest).decode()})


def answer_okta(incoming: Incoming, keys: Keys) -> Answer | None:
    """Gives the header's challenge back. Source: developer.okta.com, "Event hooks", "One-time verification request"."""
    challenge = only(incoming.headers, b"x-okta-verification-challenge")
    if incoming.method != "GET" or isinstance(challenge, Refused):
        return None
    text = challenge.decode("latin-1")
    if len(text) > MOST_CHALLENGE or not (text.isascii() and text.isprintable()):
        return None
    return json_answer("okta.verification", {"verification": text})


def answer_intercom(incoming: Incoming, keys: Keys) -> Answer | None:
    """Is there. Intercom asks with HEAD before it takes the address; Zulip's integration for Intercom answers alike."""
    return Answer("intercom.head", headers=(NOSNIFF,)) if incoming.method == "HEAD" else None


def answer_cloudevents(incoming: Incoming, keys: Keys) -> Answer | None:
    """Grants an origin the right to send: each that asks, or those in the option `allowed_origin`, by commas.

    The rate that is granted is `allowed_rate`, requests a minute, or any. Whether what it then sends is authentic is
    asked of each delivery. Source: CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery" 1.0, section 4.
    """
    origin = only(incoming.headers, b"webhook-request-origin")
    if incoming.method != "OPTIONS" or isinstance(origin, Refused):
        return None
    name = origin.decode("ascii", "replace")
    options = keys.site.options
    allowed = [part.strip().lower() for part in options.get("allowed_origin", "*").split(",")]
    rate = options.get("allowed_rate", "*")
    if not _ORIGIN.fullmatch(name) or not _RATE.fullmatch(rate) or ("*" not in allowed and name.lower() not in allowed):
        return None
    headers = (
        (b"webhook-allowed-origin", name.encode()),
        (b"webhook-allowed-rate", rate.encode()),
        (b"allow", b"POST"),
        NOSNIFF,
    )
    return Answer("cloudevents.webhook_request", headers=headers)


def _fits(challenge: str) -> bool:
    return len(challenge) <= MOST_CHALLENGE and _PLAIN.fullmatch(challenge) is not None


def _parameters(query: bytes) -> dict[str, str]:
    """The parameters of a query, those left out that came more than once; none where they cannot be read."""
    if len(query) > MOST_QUERY:
        return {}
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=64)
    except ValueError:
        return {}
    names = [name for name, _ in pairs]
    return {name: value for name, value in pairs if names.count(name) == 1}


META = Handshake(answer_meta, methods=("GET",), before=True)
X = Handshake(answer_x, methods=("GET",), before=True)
OKTA = Handshake(answer_okta, methods=("GET",), before=True)
INTERCOM = Handshake(answer_intercom, methods=("HEAD",), before=True)
CLOUDEVENTS = Handshake(answer_cloudevents, methods=("OPTIONS",), before=True)
