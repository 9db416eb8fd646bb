"""Discord's and SendGrid's signatures: SendGrid's SDK agrees, the border between time and body holds."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from ingest.verify.base import Refused, Site, Verified
from ingest.verify.public_key import PublicKey
from tests.unit.ingest import vendors
from tests.unit.ingest.authority import rsa_key
from tests.unit.ingest.forgeries import Headers, assert_all_refused, forgeries
from tests.unit.ingest.requests import NOW, changed, request

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
DISCORD = PublicKey(algorithm="ed25519", header="X-Signature-Ed25519", timestamp="X-Signature-Timestamp")
SENDGRID = PublicKey(
    algorithm="p256",
    header="X-Twilio-Email-Event-Webhook-Signature",
    timestamp="X-Twilio-Email-Event-Webhook-Timestamp",
)
BODY = '[{"event":"open","email":"☸@example.com"}]\r\n'.encode()
STAMP = str(int(NOW))

edwards = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
curve = ec.derive_private_key(12345, ec.SECP256R1())
EDWARDS_PUBLIC = edwards.public_key().public_bytes_raw().hex().encode()


def public_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def by_discord(body: bytes, stamp: str = STAMP) -> Headers:
    signature = edwards.sign(stamp.encode() + body).hex()
    return [("X-Signature-Ed25519", signature), ("X-Signature-Timestamp", stamp)]


def by_sendgrid(body: bytes, stamp: str = STAMP, key: ec.EllipticCurvePrivateKey = curve) -> Headers:
    signature = base64.b64encode(key.sign(stamp.encode() + body, ec.ECDSA(SHA256()))).decode()
    return [(SENDGRID.header, signature), (SENDGRID.timestamp, stamp)]


discord = DISCORD.compile([b"00" * 32, EDWARDS_PUBLIC], Site())
sendgrid = SENDGRID.compile([public_of(curve)], Site())


def without_leading_digit(body: bytes) -> bool:
    return not body[:1].isdigit()


@given(st.binary(max_size=200).filter(without_leading_digit))
def test_what_discord_signs_passes(body: bytes) -> None:
    assert discord(request(body, *by_discord(body)), NOW) == Verified(1)


@given(st.text(max_size=100).filter(lambda text: without_leading_digit(text.encode())))
def test_what_sendgrid_signs_passes_here_and_in_its_sdk(text: str) -> None:
    headers = by_sendgrid(text.encode())
    assert sendgrid(request(text.encode(), *headers), NOW) == Verified(0)
    assert vendors.sendgrid.EventWebhook(public_of(curve).decode()).verify_signature(text, headers[0][1], STAMP)


def test_the_example_of_sendgrids_sdk_passes() -> None:
    public = (
        b"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVp"
        b"iglSI8eNEc6wEA3F+g=="
    )
    body = (
        b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
        b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
        b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
        b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n'
    )
    headers = [
        (
            SENDGRID.header,
            "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
        ),
        (SENDGRID.timestamp, "1600112502"),
    ]
    assert SENDGRID.compile([public], Site())(request(body, *headers), NOW) == Verified(0)


@pytest.mark.parametrize(
    ("scheme", "verify", "sign"), [(DISCORD, discord, by_discord), (SENDGRID, sendgrid, by_sendgrid)]
)
def test_damage_is_refused(scheme: PublicKey, verify: object, sign: object) -> None:
    assert callable(verify)
    assert callable(sign)
    headers = sign(BODY)
    assert isinstance(verify(request(BODY, *headers), NOW), Verified)
    names = [scheme.header, scheme.timestamp]
    assert_all_refused(verify, forgeries(BODY, headers, names), NOW)
    assert isinstance(verify(request(b"", *headers), NOW), Refused)
    assert verify(request(b"", *sign(b"")), NOW) == verify(request(BODY, *headers), NOW)
    for stamp in ("1772445600.5", "-1", "☸", "1" * 17):  # signed, and yet no time
        assert verify(request(BODY, *sign(BODY, stamp)), NOW) == Refused("the timestamp is not a whole number")
    for stamp in ("-1", "1.5", " 1772445600", "1772445601", "1" * 17, "NaN"):
        assert isinstance(verify(request(BODY, *changed(headers, scheme.timestamp, stamp)), NOW), Refused)


@pytest.mark.parametrize(("verify", "sign"), [(discord, by_discord), (sendgrid, by_sendgrid)])
def test_the_border_between_time_and_body_cannot_be_moved(verify: object, sign: object) -> None:
    assert callable(verify)
    assert callable(sign)
    headers = sign(BODY)
    moved = [(name, value[:-1] if value == STAMP else value) for name, value in headers]
    verdict = verify(request(STAMP[-1:].encode() + BODY, *moved), NOW)
    assert verdict == Refused("the body begins with a digit, which could be the timestamp's")


def test_another_key_or_kind_of_key_is_refused() -> None:
    other = ec.derive_private_key(54321, ec.SECP256R1())
    assert isinstance(sendgrid(request(BODY, *by_sendgrid(BODY, key=other)), NOW), Refused)
    rsa = base64.b64encode(rsa_key("x").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    wide = public_of(ec.derive_private_key(12345, ec.SECP384R1()))
    for secret in (b"", b" ", b"AAAA", "ß".encode(), EDWARDS_PUBLIC, rsa, wide, public_of(curve)[:-4]):
        with pytest.raises(ValueError, match="expected"):
            SENDGRID.check_secret(secret)
    for secret in (b"", b" ", b"zz", b"00" * 31, "ß".encode(), public_of(curve)):
        with pytest.raises(ValueError, match="expected"):
            DISCORD.check_secret(secret)
    assert SENDGRID.compile([rsa], Site())(request(b""), NOW) == Refused("the source has no usable public key")


def test_a_key_may_be_written_as_pem() -> None:
    pem = curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert SENDGRID.compile([pem], Site())(request(BODY, *by_sendgrid(BODY)), NOW) == Verified(0)


def test_the_other_spelling_of_an_ecdsa_signature_does_not_make_a_delivery_new() -> None:
    headers = by_sendgrid(BODY)
    r, s = decode_dss_signature(base64.b64decode(headers[0][1]))
    other = base64.b64encode(encode_dss_signature(r, P256_ORDER - s)).decode()
    assert sendgrid(request(BODY, *changed(headers, SENDGRID.header, other)), NOW) == Verified(0)
    covered = SENDGRID.covered()
    assert covered(request(BODY, *changed(headers, SENDGRID.header, other))) == covered(request(BODY, *headers))
