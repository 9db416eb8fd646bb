"""Vendors with an SDK on npm only: the test signs as the vendor's documentation says, and the SDK judges that.

Their clocks are set to the contract's, so a tolerance of seconds can be tried.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from tests.vendors.by_sdk import EMPTY, FUTURE, JSON_ONLY
from tests.vendors.macs import based, hexed, in_header, over_body
from tests.vendors.vendor import Delivery, OnNode, Vendor


def linear_signs(body: bytes, now: float, secret: str) -> Delivery:
    """The time stands in the body, in milliseconds."""
    stamped = json.dumps({**json.loads(body), "webhookTimestamp": int(now) * 1000}, ensure_ascii=False).encode()
    return Delivery((("linear-signature", hexed(secret, stamped)),), stamped)


def paddle_signs(body: bytes, now: float, secret: str) -> Delivery:
    stamp = str(int(now))
    signature = hexed(secret, f"{stamp}:".encode() + body)
    return Delivery((("Paddle-Signature", f"ts={stamp};h1={signature}"),), body)


def shopify_signs(body: bytes, now: float, secret: str) -> Delivery:
    headers = {
        "X-Shopify-Hmac-SHA256": based(secret, body),
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Shop-Domain": "shop.myshopify.com",
        "X-Shopify-API-Version": "2025-10",
        "X-Shopify-Webhook-Id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
    }
    return Delivery(tuple(headers.items()), body)


def shopify_events_sign(body: bytes, now: float, secret: str) -> Delivery:
    """The headers of Shopify's newer events, which its SDK knows beside those of its webhooks."""
    webhook = shopify_signs(body, now, secret)
    renamed = tuple((name.lower().removeprefix("x-"), value) for name, value in webhook.headers)
    return Delivery((*renamed, ("shopify-event-id", "98880550-7158-44d4-b7cd-2c97c8a091b5")), body)


def zoom_signs(body: bytes, now: float, secret: str) -> Delivery:
    stamp = str(int(now))
    signature = f"v0={hexed(secret, f'v0:{stamp}:'.encode() + body)}"
    return Delivery((("x-zm-signature", signature), ("x-zm-request-timestamp", stamp)), body)


def ed25519(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))


def ed25519_public(seed: str) -> str:
    return ed25519(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def discord_signs(body: bytes, now: float, secret: str) -> Delivery:
    stamp = str(int(now))
    signature = ed25519(secret).sign(stamp.encode() + body).hex()
    return Delivery((("X-Signature-Ed25519", signature), ("X-Signature-Timestamp", stamp)), body)


DISCORD, OTHER_DISCORD = "a1" * 32, "b2" * 32
TELEGRAM_UPDATE = {"plain": b'{"update_id":1}', "unicode": '{"update_id":2,"x":"kůň 🐎"}'.encode()}

CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-" + "0123456789abcdef" * 2 + ".pem"


@cache
def rsa(name: str) -> RSAPrivateKey:
    """A key by name, the same one for the whole run."""
    return generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate(name: str) -> x509.Certificate:
    """One that the key `name` has signed itself, valid whenever these tests run."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    unsigned = x509.CertificateBuilder(subject, subject, rsa(name).public_key(), 1)
    dated = unsigned.not_valid_before(datetime(2020, 1, 1)).not_valid_after(datetime(2120, 1, 1))
    return dated.sign(rsa(name), SHA256())


SNS_MESSAGE = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:eu-west-1:123456789012:shop",
    "Subject": "order.paid",
    "Message": "evt_1",
    "Timestamp": "2026-05-02T00:54:06.655Z",
    "SignatureVersion": "2",
    "SigningCertURL": CERTIFICATE_URL,
    "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
}
SNS_CONFIRMATION = {
    **{name: value for name, value in SNS_MESSAGE.items() if name not in ("Subject", "UnsubscribeURL")},
    "Type": "SubscriptionConfirmation",
    "Token": "2336412f37f",
    "SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37f",
}
SNS_SIGNED = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


def sns_body(base: dict[str, str], **changes: str | None) -> bytes:
    document = {name: value for name, value in {**base, **changes}.items() if value is not None}
    return json.dumps(document, ensure_ascii=False).encode()


def sns_signs(body: bytes, now: float, secret: str) -> Delivery:
    message = json.loads(body)
    signed = "".join(f"{name}\n{message[name]}\n" for name in SNS_SIGNED if name in message).encode()
    algorithm = SHA256() if message["SignatureVersion"] == "2" else SHA1()
    message["Signature"] = base64.b64encode(rsa(secret).sign(signed, PKCS1v15(), algorithm)).decode()
    return Delivery((), json.dumps(message, ensure_ascii=False).encode())


def sns_altered(signed: bytes) -> list[bytes]:
    """Every field that is signed, the certificate's address, and what the signature would leave room for."""
    host = b"sns.eu-west-1.amazonaws.com"
    hosts = [b"sns.eu-west-1.amazonaws.com.evil.example", b"evil.example", b"u:p@" + host, host + b":8443"]
    texts = [b"evt_1", b"22b80b92", b"order.paid", b"2026-05-02T00:54:06", b"123456789012:shop"]
    message = json.loads(signed)
    shifted = {**message, "Message": f"{message['Message']}\nMessageId", "MessageId": "x"}
    return [
        *[signed.replace(text, text[:-1] + b"9") for text in texts],
        *[signed.replace(b"https://" + host + b"/Simple", b"https://" + other + b"/Simple") for other in hosts],
        signed.replace(b"https://" + host + b"/Simple", b"http://" + host + b"/Simple"),
        signed.replace(b'"SignatureVersion": "2"', b'"SignatureVersion": "3"'),
        signed.replace(b'"SignatureVersion": "2"', b'"SignatureVersion": "1"'),
        json.dumps({name: value for name, value in message.items() if name != "Subject"}).encode(),
        json.dumps({name: value for name, value in message.items() if name != "Signature"}).encode(),
        json.dumps(shifted).encode(),
        b"[]",
        b"",
    ]


AGELESS = "the SDK checks no age"
LAST = "the SDK reads a header that came twice, joined by a comma, as one list, and takes the last of its kind"

BY_NODE = [
    Vendor(
        "github/octokit",
        over_body("X-Hub-Signature-256", "sha256={}", hexed),
        OnNode("github"),
        proofs=("X-Hub-Signature-256",),
        quarrels={"genuine, empty": EMPTY},
    ),
    Vendor("linear", linear_signs, OnNode("linear"), bodies=JSON_ONLY, proofs=("linear-signature",), tolerance=60.0),
    Vendor(
        "paddle",
        paddle_signs,
        OnNode("paddle"),
        proofs=("Paddle-Signature",),
        tolerance=300.0,
        quarrels={
            "almost too old": "the SDK allows five seconds, which a busy queue at either side exceeds",
            "too ahead": FUTURE,
            "twice the same Paddle-Signature": LAST,
            "a forged and then the Paddle-Signature": LAST,
        },
    ),
    Vendor(
        "shopify/webhooks",
        shopify_signs,
        OnNode("shopify"),
        proofs=("X-Shopify-Hmac-SHA256",),
        quarrels={"genuine, empty": EMPTY},
    ),
    Vendor(
        "shopify/events",
        shopify_events_sign,
        OnNode("shopify"),
        proofs=("shopify-hmac-sha256",),
        quarrels={"genuine, empty": EMPTY},
    ),
    Vendor(
        "zoom",
        zoom_signs,
        OnNode("zoom"),
        bodies={"plain": b'{"event":"meeting.started","id":"evt_1"}', "unicode": '{"event":"kůň 🐎"}'.encode()},
        proofs=("x-zm-signature", "x-zm-request-timestamp"),
        tolerance=3 * 3600.0,
        quarrels={
            "too old": AGELESS,
            "too ahead": AGELESS,
            "altered body 2": "the SDK verifies what it makes of the parsed body, not the bytes that came",
        },
    ),
    Vendor(
        "discord",
        discord_signs,
        OnNode("discord"),
        secret=DISCORD,
        other=OTHER_DISCORD,
        pasted=ed25519_public(DISCORD),
        proofs=("X-Signature-Ed25519", "X-Signature-Timestamp"),
        timed=True,
    ),
    Vendor(
        "telegram",
        in_header("X-Telegram-Bot-Api-Secret-Token"),
        OnNode("telegram"),
        secret="only_A-Z_and-0-9",
        other="another_one",
        bodies=TELEGRAM_UPDATE,
        proofs=("X-Telegram-Bot-Api-Secret-Token",),
        altered=lambda body: [],
    ),
    Vendor(
        "x",
        over_body("x-twitter-webhooks-signature", "sha256={}", based),
        OnNode("x"),
        bodies=JSON_ONLY,
        proofs=("x-twitter-webhooks-signature",),
    ),
    Vendor(
        "sns",
        sns_signs,
        OnNode("sns", certificate("aws").public_bytes(Encoding.PEM).decode()),
        secret="aws",
        other="evil",
        certificates={CERTIFICATE_URL: certificate("aws")},
        bodies={
            "plain": sns_body(SNS_MESSAGE),
            "unicode": sns_body(SNS_MESSAGE, Message="kůň 🐎\n2", Subject=None),
            "empty message": sns_body(SNS_MESSAGE, Message=""),
            "version 1": sns_body(SNS_MESSAGE, SignatureVersion="1"),
            "confirmation": sns_body(SNS_CONFIRMATION),
        },
        altered=sns_altered,
        quarrels={"altered body 8": "the SDK looks at the host alone; an address with a user is none of Amazon's"},
        options={"topics": "arn:aws:sns:eu-west-1:123456789012:shop"},
    ),
]
