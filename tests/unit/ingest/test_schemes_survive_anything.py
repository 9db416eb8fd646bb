"""Schemes beyond HMAC templates: whatever is sent, none raises and none lets pass what nobody signed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.providers import PRESETS
from ingest.verify.base import Incoming, Refused, Site, Verifier
from tests.unit.ingest.authority import certificate
from tests.unit.ingest.requests import NOW
from tests.unit.ingest.test_adyen import ITEM, KEY
from tests.unit.ingest.test_paypal import URL as PAYPAL_URL
from tests.unit.ingest.test_paypal import WEBHOOK
from tests.unit.ingest.test_public_key import EDWARDS_PUBLIC, curve, public_of
from tests.unit.ingest.test_sns import CONFIRMATION, NOTIFICATION, TOPIC
from tests.unit.ingest.test_sns import URL as SNS_URL

SITE = Site(
    url="https://hooks.example.com/in/x",
    options={"webhook_id": WEBHOOK, "topics": TOPIC},
    certificates={PAYPAL_URL: certificate("paypal"), SNS_URL: certificate("sns")},
)
SECRETS = {
    "sendgrid": public_of(curve),
    "discord": EDWARDS_PUBLIC,
    "adyen": KEY.encode(),
}
NAMES = (
    "twilio",
    "sendgrid",
    "mailgun",
    "discord",
    "telegram",
    "meta",
    "x",
    "zoom",
    "slack",
    "paypal",
    "adyen",
    "sns",
    "hubspot",
)
MODELS: list[dict[str, Any]] = [
    {"signature": {"timestamp": str(int(NOW)), "token": "t", "signature": "0" * 64}},
    {"notificationItems": [{"NotificationRequestItem": ITEM | {"additionalData": {"hmacSignature": "A" * 43 + "="}}}]},
    NOTIFICATION | {"SignatureVersion": "1", "Signature": "AAAA"},
    CONFIRMATION | {"SignatureVersion": "2", "Signature": "AAAA"},
]
HEADERS = (
    "content-type",
    "x-twilio-signature",
    "x-twilio-webhooks-signature-settings",
    "x-twilio-email-event-webhook-signature",
    "x-twilio-email-event-webhook-timestamp",
    "x-signature-ed25519",
    "x-signature-timestamp",
    "x-hub-signature-256",
    "x-twitter-webhooks-signature",
    "x-zm-signature",
    "x-zm-request-timestamp",
    "x-slack-signature",
    "x-slack-request-timestamp",
    "paypal-transmission-id",
    "paypal-transmission-time",
    "paypal-transmission-sig",
    "paypal-auth-algo",
    "paypal-cert-url",
    "x-hubspot-signature-v3",
    "x-hubspot-request-timestamp",
    "x-telegram-bot-api-secret-token",
)
VALUES = (
    b"",
    b"0" * 128,
    b"00",
    b"v0=" + b"0" * 64,
    b"sha256=" + b"0" * 64,
    b"AAAA",
    b"\xff\xfe",
    b"a\nb",
    b"SHA256withRSA",
    b"2026-03-02T10:00:00Z",
    str(int(NOW)).encode(),
    str(int(NOW * 1000)).encode(),
    PAYPAL_URL.encode(),
    b"application/x-www-form-urlencoded",
    b"algorithm=HMAC_SHA256",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def damaged_models(draw: st.DrawFn) -> bytes:
    model: dict[str, Any] = dict(draw(st.sampled_from(MODELS)))
    for name in draw(st.lists(st.sampled_from(sorted(model)), max_size=3)):
        model[name] = draw(JSON)
    return json.dumps(model).encode()


@st.composite
def requests(draw: st.DrawFn) -> Incoming:
    headers = draw(
        st.dictionaries(
            st.sampled_from([name.encode() for name in HEADERS]), st.sampled_from(VALUES) | st.binary(max_size=80)
        )
    )
    body = draw(st.binary(max_size=100) | JSON.map(json.dumps).map(str.encode) | damaged_models())
    query = draw(
        st.sampled_from([b"", b"bodySHA256=", b"bodySHA256=a&bodySHA256=b", b"%ff", b"&" * 2000])
        | st.binary(max_size=40)
    )
    return Incoming(draw(st.sampled_from(["POST", "GET", "ß"])), "/in/x", query, headers, body)


def verifiers() -> dict[str, Verifier]:
    return {name: PRESETS[name].scheme.compile([SECRETS.get(name, b"a secret")], SITE) for name in NAMES}


VERIFIERS = verifiers()


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_whole(name: str) -> None:
    preset = PRESETS[name]
    assert preset.scheme.faults(SITE) == []
    assert preset.scheme.summary()
    if not preset.scheme.secretless:
        preset.scheme.check_secret(SECRETS.get(name, b"a secret"))
    check: Callable[[Incoming, float], object] = preset.scheme.compile([], SITE)
    assert isinstance(check(Incoming("POST", "/in/x", b"", {}, b"{}"), NOW), Refused)


@given(requests(), st.sampled_from([NOW, 0.0]))
def test_nothing_that_is_sent_raises_or_passes(incoming: Incoming, now: float) -> None:
    for verify in VERIFIERS.values():
        assert isinstance(verify(incoming, now), Refused)
