"""Vendors with an SDK on PyPI: it signs wherever it can, and judges all."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from Adyen.util import generate_notification_sig, is_valid_hmac_notification
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gidgethub.sansio import validate_event
from gidgetlab.sansio import Event
from hubspot.utils.signature import Signature
from mailgun.security import SecurityGuard
from pywa.utils import webhook_updates_validator
from sendgrid.helpers.eventwebhook import EventWebhook
from slack_sdk.signature import SignatureVerifier
from square.utils.webhooks_helper import verify_signature
from standardwebhooks import Webhook
from stripe import WebhookSignature
from svix.webhooks import Webhook as SvixWebhook
from twilio.request_validator import RequestValidator, get_signature_algorithm

from tests.vendors.macs import based, digest, hexed, in_header, over_body
from tests.vendors.vendor import BODIES, SECRET, URL, Delivery, Vendor

JSON_ONLY = {kind: body for kind, body in BODIES.items() if kind in ("plain", "unicode")}
NOTHING: Any = lambda body: []  # noqa: E731 -- the body is not signed
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_WHSEC = "whsec_" + base64.b64encode(b"another secret of 24 byt").decode()


# --- code -----------------------------------------------------------------------------------------------------------


def github(delivery: Delivery) -> bool:
    validate_event(delivery.body, signature=delivery.seen()["x-hub-signature-256"], secret=SECRET)
    return True


def gitlab(delivery: Delivery) -> bool:
    seen = {"x-gitlab-event": "Push Hook", "content-type": "application/json", **delivery.seen()}
    Event.from_http(seen, b"{}", secret=SECRET)
    return True


# --- payments -------------------------------------------------------------------------------------------------------


def stripe_signs(body: bytes, now: float, secret: str) -> Delivery:
    header = WebhookSignature.generate_signature_header(body.decode(), secret, int(now))
    return Delivery((("Stripe-Signature", header),), body)


def stripe(delivery: Delivery) -> bool:
    return bool(WebhookSignature.verify_header(delivery.body, delivery.seen().get("stripe-signature"), SECRET, 300))


def square_signs(body: bytes, now: float, secret: str) -> Delivery:
    return Delivery((("x-square-hmacsha256-signature", based(secret, URL.encode() + body)),), body)


def square(delivery: Delivery) -> bool:
    signature = delivery.seen()["x-square-hmacsha256-signature"]
    body = delivery.body.decode()
    return verify_signature(
        request_body=body, signature_header=signature, signature_key=SECRET, notification_url=delivery.url
    )


ADYEN_KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
ADYEN_ITEM = {
    "pspReference": "7914073381342284",
    "originalReference": "",
    "merchantAccountCode": "TestMerchant",
    "merchantReference": "TestPayment-1407325143704",
    "amount": {"value": 1130, "currency": "EUR"},
    "eventCode": "AUTHORISATION",
    "success": "true",
}


def adyen_body(**changes: Any) -> bytes:
    item = {"NotificationRequestItem": {**ADYEN_ITEM, **changes}}
    return json.dumps({"live": "false", "notificationItems": [item]}, ensure_ascii=False).encode()


def adyen_signs(body: bytes, now: float, secret: str) -> Delivery:
    """Every item is signed by itself; the request as a whole is not."""
    document = json.loads(body)
    for wrapped in document["notificationItems"]:
        item = wrapped["NotificationRequestItem"]
        item["additionalData"] = {"hmacSignature": generate_notification_sig(item, secret).decode()}
    return Delivery((), json.dumps(document, ensure_ascii=False).encode())


def adyen(delivery: Delivery) -> bool:
    items = json.loads(delivery.body)["notificationItems"]
    return all(is_valid_hmac_notification({"notificationItems": [item]}, ADYEN_KEY) for item in items)


def adyen_altered(signed: bytes) -> list[bytes]:
    """Every field that is signed, and an item that nobody signed."""
    document = json.loads(signed)
    (item,) = document["notificationItems"]
    altered = [signed.replace(b"1130", b"1131"), signed.replace(b'"true"', b'"false"'), signed.replace(b"EUR", b"USD")]
    altered += [signed.replace(b"AUTHORISATION", b"REFUND"), signed.replace(b"7914", b"7915")]
    altered += [signed.replace(b"TestMerchant", b"OtherMerchant"), signed.replace(b"TestPayment", b"OtherPayment")]
    unsigned = {"NotificationRequestItem": {**ADYEN_ITEM, "merchantReference": "smuggled"}}
    return [*altered, json.dumps({**document, "notificationItems": [item, unsigned]}).encode()]


# --- messages -------------------------------------------------------------------------------------------------------


def slack_signs(body: bytes, now: float, secret: str) -> Delivery:
    stamp = str(int(now))
    signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body) or ""
    return Delivery((("X-Slack-Signature", signature), ("X-Slack-Request-Timestamp", stamp)), body)


def slack(delivery: Delivery) -> bool:
    return SignatureVerifier(SECRET).is_valid_request(delivery.body, delivery.seen())


TWILIO_FORMS = {
    "plain": b"CallSid=CA1&Caller=%2B14158675309&Digits=1234",
    "unicode": b"Body=k%C5%AF%C5%88+%F0%9F%90%8E&City=%C4%8Ce%C5%A1t%C3%ADn&AddOns=%7B%22a%22%3A1%7D",
    "repeated and empty values": b"Media=b&Media=a&Media=b&Empty=&Body=a%3Db",
    "empty": b"",
}


class Form(dict[str, list[str]]):
    """A form as frameworks hand it to Twilio's SDK."""

    def getall(self, name: str) -> list[str]:
        return self[name]


def twilio_form(body: bytes) -> Form:
    form = Form()
    for name, value in parse_qsl(body.decode(), keep_blank_values=True):
        form.setdefault(name, []).append(value)
    return form


def twilio_signs_form(body: bytes, now: float, secret: str) -> Delivery:
    url = f"{URL}?source=a%20b&x=1"
    signature = RequestValidator(secret).compute_signature(url, twilio_form(body))
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    return Delivery((kind, ("X-Twilio-Signature", signature)), body, url)


def twilio_signs_sha256(body: bytes, now: float, secret: str) -> Delivery:
    """With a shared key: the newer form, HMAC-SHA256, said by a header."""
    plain = twilio_signs_form(body, now, secret)
    signature = RequestValidator(secret).compute_signature(plain.url, twilio_form(body), "HMAC_SHA256")
    settings = ("X-Twilio-Webhooks-Signature-Settings", "algorithm=HMAC_SHA256")
    return Delivery((plain.headers[0], ("X-Twilio-Signature", signature), settings), body, plain.url)


def twilio_signs_json(body: bytes, now: float, secret: str) -> Delivery:
    url = f"{URL}?bodySHA256={digest(body)}"
    signature = RequestValidator(secret).compute_signature(url, {})
    return Delivery((("Content-Type", "application/json"), ("X-Twilio-Signature", signature)), body, url)


def twilio(delivery: Delivery) -> bool:
    seen = delivery.seen()
    form = "urlencoded" in seen["content-type"]
    content = twilio_form(delivery.body) if form else delivery.body.decode()
    algorithm = get_signature_algorithm(seen.get("x-twilio-webhooks-signature-settings"))
    return bool(RequestValidator(SECRET).validate(delivery.url, content, seen["x-twilio-signature"], algorithm))


def twilio_altered(body: bytes) -> list[bytes]:
    return [body.replace(b"1234", b"1235"), body + b"&Extra=1", body.replace(b"&Digits=1234", b"")]


def p256(seed: str) -> EllipticCurvePrivateKey:
    return derive_private_key(int(seed, 16), SECP256R1())


def p256_public(seed: str) -> str:
    encoded = p256(seed).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(encoded).decode()


SENDGRID, OTHER_SENDGRID = "5e" * 31, "6f" * 31


def sendgrid_signs(body: bytes, now: float, secret: str) -> Delivery:
    """Its signatures vary in length, and with it what the SDK makes of two: take one of those that end with a `=`."""
    stamp = str(int(now))
    signed = b""
    while len(signed) != 71:
        signed = p256(secret).sign(stamp.encode() + body, ECDSA(SHA256()))
    signature = base64.b64encode(signed).decode()
    name = "X-Twilio-Email-Event-Webhook-"
    return Delivery(((f"{name}Signature", signature), (f"{name}Timestamp", stamp)), body)


def sendgrid(delivery: Delivery) -> bool:
    name, seen = "x-twilio-email-event-webhook-", delivery.seen()
    judge = EventWebhook(p256_public(SENDGRID))
    return bool(judge.verify_signature(delivery.body.decode(), seen[f"{name}signature"], seen[f"{name}timestamp"]))


MAILGUN_TOLERANCE = 12 * 3600.0


def mailgun_signs(body: bytes, now: float, secret: str) -> Delivery:
    """The signature stands in the body, over a time and a token; what is beside it is not signed."""
    stamp, token = str(int(now)), "0f6c8e2a9d" * 5
    signature = {"timestamp": stamp, "token": token, "signature": hexed(secret, f"{stamp}{token}".encode())}
    event = json.loads(body)
    return Delivery((), json.dumps({"signature": signature, "event-data": event}, ensure_ascii=False).encode())


def mailgun(delivery: Delivery) -> bool:
    signature = json.loads(delivery.body)["signature"]
    stamp, token, given = signature["timestamp"], signature["token"], signature["signature"]
    return SecurityGuard.verify_webhook(SECRET, token, stamp, given, int(MAILGUN_TOLERANCE))


def mailgun_altered(signed: bytes) -> list[bytes]:
    """The token, what is there at all, and the time as a fraction; but not the event, which nothing signs."""
    fields = [
        signed.replace(b'"0f6c', b'"1f6c'),
        signed.replace(b'"token"', b'"tokens"'),
        signed.replace(b'"timestamp": "', b'"timestamp": "0'),
        signed.replace(b'"signature": "', b'"signature": "0'),
    ]
    return [*fields, b"{}", b"", b"[1]"]


def meta(delivery: Delivery) -> bool:
    signature = delivery.seen()["x-hub-signature-256"]
    return webhook_updates_validator(SECRET, delivery.body, signature)


# --- business -------------------------------------------------------------------------------------------------------


def hubspot_signs(body: bytes, now: float, secret: str, url: str = f"{URL}?portal=1") -> Delivery:
    stamp = str(int(now) * 1000)
    signature = Signature.get_signature(secret, body.decode(), "v3", url, "POST", stamp)
    return Delivery((("X-HubSpot-Signature-v3", signature), ("X-HubSpot-Request-Timestamp", stamp)), body, url)


def hubspot(delivery: Delivery) -> bool:
    seen = delivery.seen()
    return bool(
        Signature.is_valid(
            signature=seen["x-hubspot-signature-v3"],
            client_secret=SECRET,
            request_body=delivery.body.decode(),
            http_uri=delivery.url,
            http_method=delivery.method,
            signature_version="v3",
            timestamp=seen["x-hubspot-request-timestamp"],
        )
    )


# --- open -----------------------------------------------------------------------------------------------------------


def standard_signs(body: bytes, now: float, secret: str) -> Delivery:
    when = datetime.fromtimestamp(int(now), UTC)
    signature = Webhook(secret).sign("msg_1", when, body.decode())
    headers = ("webhook-id", "msg_1"), ("webhook-timestamp", str(int(now))), ("webhook-signature", signature)
    return Delivery(headers, body)


def standard(delivery: Delivery) -> bool:
    Webhook(WHSEC).verify(delivery.body, delivery.seen(), json_parse=False)
    return True


def svix_signs(body: bytes, now: float, secret: str) -> Delivery:
    when = datetime.fromtimestamp(int(now), UTC)
    signature = SvixWebhook(secret).sign("msg_1", when, body.decode())
    headers = ("svix-id", "msg_1"), ("svix-timestamp", str(int(now))), ("svix-signature", signature)
    return Delivery(headers, body)


def svix(delivery: Delivery) -> bool:
    SvixWebhook(WHSEC).verify(delivery.body, delivery.seen())
    return True


STANDARD_PROOFS = ("webhook-id", "webhook-timestamp", "webhook-signature")

FUTURE = "the SDK checks that a time is not too old, but not that it is not ahead"
PAIRS = "the SDK reads a header that came twice, joined by a comma, as one list; we believe neither"
PADDED = "the SDK decodes a signature to its first `=` and looks no further"
EMPTY = "the SDK refuses to look at an empty body; we verify it like any other"

BY_SDK = [
    Vendor(
        "github/gidgethub",
        over_body("X-Hub-Signature-256", "sha256={}", hexed),
        github,
        proofs=("X-Hub-Signature-256",),
    ),
    Vendor("gitlab/token", in_header("X-Gitlab-Token"), gitlab, proofs=("X-Gitlab-Token",), altered=NOTHING),
    Vendor(
        "gitlab/signed",
        standard_signs,
        standard,
        secret=WHSEC,
        other=OTHER_WHSEC,
        proofs=STANDARD_PROOFS,
        tolerance=300.0,
    ),
    Vendor(
        "stripe",
        stripe_signs,
        stripe,
        proofs=("Stripe-Signature",),
        tolerance=300.0,
        quarrels={
            "too ahead": FUTURE,
            "twice the same Stripe-Signature": PAIRS,
            "a repeated Stripe-Signature": PAIRS,
            "a forged and then the Stripe-Signature": PAIRS,
            "the, then a forged Stripe-Signature": PAIRS,
        },
    ),
    Vendor(
        "square",
        square_signs,
        square,
        bodies={**JSON_ONLY, "empty": b""},
        proofs=("x-square-hmacsha256-signature",),
        quarrels={"genuine, empty": EMPTY},
    ),
    Vendor(
        "adyen",
        adyen_signs,
        adyen,
        secret=ADYEN_KEY,
        other="0F" * 32,
        bodies={"plain": adyen_body(), "unicode": adyen_body(merchantReference="kůň 🐎:1\\2")},
        altered=adyen_altered,
    ),
    Vendor("slack", slack_signs, slack, proofs=("X-Slack-Signature", "X-Slack-Request-Timestamp"), tolerance=300.0),
    Vendor(
        "twilio/form",
        twilio_signs_form,
        twilio,
        bodies=TWILIO_FORMS,
        proofs=("X-Twilio-Signature",),
        altered=twilio_altered,
    ),
    Vendor(
        "twilio/shared key",
        twilio_signs_sha256,
        twilio,
        bodies=TWILIO_FORMS,
        proofs=("X-Twilio-Signature", "X-Twilio-Webhooks-Signature-Settings"),
        altered=twilio_altered,
        quarrels={
            "twice the same X-Twilio-Webhooks-Signature-Settings": PAIRS,
            "a repeated X-Twilio-Webhooks-Signature-Settings": PAIRS,
        },
    ),
    Vendor("twilio/JSON", twilio_signs_json, twilio, proofs=("X-Twilio-Signature",)),
    Vendor(
        "sendgrid",
        sendgrid_signs,
        sendgrid,
        secret=SENDGRID,
        other=OTHER_SENDGRID,
        pasted=p256_public(SENDGRID),
        proofs=("X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"),
        timed=True,
        quarrels={
            "twice the same X-Twilio-Email-Event-Webhook-Signature": PADDED,
            "a repeated X-Twilio-Email-Event-Webhook-Signature": PADDED,
            "the, then a forged X-Twilio-Email-Event-Webhook-Signature": PADDED,
        },
    ),
    Vendor(
        "mailgun",
        mailgun_signs,
        mailgun,
        bodies=JSON_ONLY,
        altered=mailgun_altered,
        tolerance=MAILGUN_TOLERANCE,
    ),
    Vendor("meta", over_body("X-Hub-Signature-256", "sha256={}", hexed), meta, proofs=("X-Hub-Signature-256",)),
    Vendor(
        "hubspot",
        hubspot_signs,
        hubspot,
        bodies=JSON_ONLY,
        proofs=("X-HubSpot-Signature-v3", "X-HubSpot-Request-Timestamp"),
        tolerance=300.0,
        quarrels={"too ahead": FUTURE},
    ),
    Vendor(
        "standard/standardwebhooks",
        standard_signs,
        standard,
        secret=WHSEC,
        other=OTHER_WHSEC,
        proofs=STANDARD_PROOFS,
        tolerance=300.0,
    ),
    Vendor(
        "standard/svix",
        svix_signs,
        svix,
        secret=WHSEC,
        other=OTHER_WHSEC,
        proofs=("svix-id", "svix-timestamp", "svix-signature"),
        tolerance=300.0,
    ),
]
