"""What every sender that `sign_as` can play is to the tests: its secrets, bodies in its form, what must be there."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from ingest.providers import PRESETS
from ingest.signing import Draft, Sent, sign_as
from ingest.verify.base import Incoming, Site, Verifier, headers_of
from tests.unit.ingest.requests import NOW, WHSEC

URL = "https://hooks.example.com/in/test"
TEXT = '{"type":"order.paid","note":"Mühle ☸","n":1}'
ADYEN = {
    "notificationItems": [
        {
            "NotificationRequestItem": {
                "pspReference": f"79140733813422{n}",
                "merchantAccountCode": "Mühle",
                "merchantReference": "order: ☸",
                "amount": {"value": 1130 + n, "currency": "EUR"},
                "eventCode": "AUTHORISATION",
                "success": "true",
            }
        }
        for n in range(2)
    ]
}


class Player(msgspec.Struct, frozen=True):
    """One sender.

    Args:
        proofs: headers without any one of which nothing passes.
        tolerance: seconds that a time may be off; 0: no time is signed.
        bodies: some that it could send beside `TEXT`.
        signs_body: False for a token, which whoever has it can put on anything.
    """

    secret: str = "It's a Sécret to Everybody"
    other: str = "another secret"
    proofs: tuple[str, ...] = ()
    tolerance: float = 0.0
    text: str = TEXT
    bodies: tuple[bytes, ...] = (b"", b"\x00\xff\xfe", b'"x"' + b"y" * 100_000)
    signs_body: bool = True


OTHER_WHSEC = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
JSON = (b"{}", b'{"x":"' + b"y" * 100_000 + b'"}')
STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")

PLAYERS: dict[str, Player] = {
    "github": Player(proofs=("X-Hub-Signature-256",)),
    "gitlab": Player(proofs=("X-Gitlab-Token",), signs_body=False),
    "bitbucket": Player(proofs=("X-Hub-Signature",)),
    "linear": Player(proofs=("Linear-Signature",), tolerance=60, bodies=JSON),
    "sentry": Player(proofs=("Sentry-Hook-Signature",)),
    "stripe": Player(proofs=("Stripe-Signature",), tolerance=300),
    "square": Player(proofs=("x-square-hmacsha256-signature",)),
    "paddle": Player(proofs=("Paddle-Signature",), tolerance=300),
    "shopify": Player(proofs=("X-Shopify-Hmac-SHA256",)),
    "adyen": Player("44782DEF547AAA06C910C43932B1EB0C", "6BA056FC", text=json.dumps(ADYEN), bodies=()),
    "slack": Player(proofs=("X-Slack-Signature", "X-Slack-Request-Timestamp"), tolerance=300),
    "twilio": Player(proofs=("X-Twilio-Signature",), bodies=(b"", b"B=b+%C3%BC&A=2&A=1&C=", b"A=" + b"y" * 100_000)),
    "mailgun": Player(tolerance=12 * 3600, bodies=JSON, signs_body=False),
    "telegram": Player(proofs=("X-Telegram-Bot-Api-Secret-Token",), signs_body=False),
    "meta": Player(proofs=("X-Hub-Signature-256",)),
    "x": Player(proofs=("x-twitter-webhooks-signature",), bodies=JSON),
    "zoom": Player(proofs=("x-zm-signature", "x-zm-request-timestamp"), tolerance=3 * 3600),
    "hubspot": Player(
        proofs=("X-HubSpot-Signature-v3", "X-HubSpot-Request-Timestamp"), tolerance=300, bodies=(b"", b"[]", *JSON)
    ),
    "intercom": Player(proofs=("X-Hub-Signature",)),
    "zendesk": Player(
        proofs=("X-Zendesk-Webhook-Signature", "X-Zendesk-Webhook-Signature-Timestamp"),
        tolerance=300,
    ),
    "typeform": Player(proofs=("Typeform-Signature",)),
    "docusign": Player(proofs=("X-DocuSign-Signature-1",)),
    "pagerduty": Player(proofs=("X-PagerDuty-Signature",)),
    "okta": Player(proofs=("Authorization",), signs_body=False),
    "standard": Player(WHSEC, OTHER_WHSEC, proofs=STANDARD, tolerance=300),
    "cloudevents": Player(proofs=("Authorization",), signs_body=False),
    "generic": Player(proofs=("X-Signature",)),
}


def verifier(preset: str, *secrets: str) -> Verifier:
    """The preset's, at `URL`, with these secrets or the player's own."""
    keys = [secret.encode() for secret in secrets or (PLAYERS[preset].secret,)]
    return PRESETS[preset].scheme.compile(keys, Site(URL))


def sent(preset: str, body: bytes | None = None, *, now: float = NOW, secret: str | None = None) -> Sent:
    """What the player sends."""
    player = PLAYERS[preset]
    own = player.secret if secret is None else secret
    return sign_as(preset, Draft(own, "order.paid", "msg_1", player.text.encode() if body is None else body, now, URL))


def arrived(one: Sent, headers: Sequence[tuple[str, str]] | None = None, body: bytes | None = None) -> Incoming:
    """The request as ingest sees it, with other headers or another body on the way."""
    raw = [(name.lower().encode(), value.encode()) for name, value in (one.headers if headers is None else headers)]
    return Incoming("POST", "/in/test", one.query.encode(), headers_of(raw), one.body if body is None else body)
