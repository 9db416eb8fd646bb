"""Vendors without an SDK that tells: the test signs as their documentation says. Their own examples, where they have
published any, are in `test_documented.py`.
"""

from __future__ import annotations

import base64
import zlib

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.vendors.by_node import certificate, rsa
from tests.vendors.macs import based, hexed, in_header, over_body
from tests.vendors.vendor import Delivery, Vendor, iso

PAYPAL_CERTIFICATE = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
PAYPAL_WEBHOOK = "4JH86294D6297924G"
PAYPAL_PROOFS = ("ID", "TIME", "SIG")


def paypal_signs(body: bytes, now: float, secret: str) -> Delivery:
    number, time = "dfb3be50-fd74-11e4-8bf3-77339302725b", iso(now)
    signed = f"{number}|{time}|{PAYPAL_WEBHOOK}|{zlib.crc32(body)}".encode()
    signature = base64.b64encode(rsa(secret).sign(signed, PKCS1v15(), SHA256())).decode()
    headers = {
        "PAYPAL-TRANSMISSION-ID": number,
        "PAYPAL-TRANSMISSION-TIME": time,
        "PAYPAL-TRANSMISSION-SIG": signature,
        "PAYPAL-CERT-URL": PAYPAL_CERTIFICATE,
        "PAYPAL-AUTH-ALGO": "SHA256withRSA",
    }
    return Delivery(tuple(headers.items()), body)


def zendesk_signs(body: bytes, now: float, secret: str) -> Delivery:
    name = "X-Zendesk-Webhook-Signature"
    return Delivery(((name, based(secret, iso(now).encode() + body)), (f"{name}-Timestamp", iso(now))), body)


BY_DOCUMENTATION = [
    Vendor("bitbucket", over_body("X-Hub-Signature", "sha256={}", hexed), proofs=("X-Hub-Signature",)),
    Vendor("sentry", over_body("Sentry-Hook-Signature", "{}", hexed), proofs=("Sentry-Hook-Signature",)),
    Vendor(
        "paypal",
        paypal_signs,
        secret="paypal",
        other="evil",
        certificates={PAYPAL_CERTIFICATE: certificate("paypal")},
        options={"webhook_id": PAYPAL_WEBHOOK},
        proofs=(*(f"PAYPAL-TRANSMISSION-{proof}" for proof in PAYPAL_PROOFS), "PAYPAL-CERT-URL"),
    ),
    Vendor(
        "intercom",
        over_body("X-Hub-Signature", "sha1={}", lambda secret, body: hexed(secret, body, "sha1")),
        proofs=("X-Hub-Signature",),
    ),
    Vendor(
        "zendesk",
        zendesk_signs,
        proofs=("X-Zendesk-Webhook-Signature", "X-Zendesk-Webhook-Signature-Timestamp"),
        tolerance=300.0,
    ),
    Vendor("typeform", over_body("Typeform-Signature", "sha256={}", based), proofs=("Typeform-Signature",)),
    Vendor("docusign", over_body("X-DocuSign-Signature-1", "{}", based), proofs=("X-DocuSign-Signature-1",)),
    Vendor("pagerduty", over_body("X-PagerDuty-Signature", "v1={}", hexed), proofs=("X-PagerDuty-Signature",)),
    Vendor("okta", in_header("Authorization"), proofs=("Authorization",), altered=lambda body: []),
    Vendor("cloudevents", in_header("Authorization", "Bearer {}"), proofs=("Authorization",), altered=lambda body: []),
]
