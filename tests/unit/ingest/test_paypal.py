"""PayPal: a transmission passes once, for this webhook, by a certificate on PayPal's host."""

from __future__ import annotations

import base64
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.x509 import Certificate, CertificateBuilder, Name

from ingest.verify.base import NO_SECRET, Refused, Site, Verified, Wanted
from ingest.verify.paypal import RETRIES, PayPal
from tests.unit.ingest.authority import certificate, rsa_key
from tests.unit.ingest.forgeries import Headers, assert_all_refused, forgeries
from tests.unit.ingest.requests import NOW, changed, request

WEBHOOK = "1JE4291016473214C"
URL = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
BODY = '{"id":"WH-9UG43882","event_type":"PAYMENT.SALE.COMPLETED","summary":"☸"}'.encode()
HEADERS = ("PAYPAL-TRANSMISSION-ID", "PAYPAL-TRANSMISSION-TIME", "PAYPAL-TRANSMISSION-SIG", "PAYPAL-AUTH-ALGO")


def when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def transmission(
    body: bytes = BODY,
    *,
    id: str = "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
    time: str = when(NOW),
    webhook: str = WEBHOOK,
    url: str = URL,
    key: str = "paypal",
    algorithm: HashAlgorithm = SHA256(),  # noqa: B008
) -> Headers:
    """As developer.paypal.com, "Integrate webhooks", has it."""
    message = f"{id}|{time}|{webhook}|{zlib.crc32(body)}".encode()
    signature = base64.b64encode(rsa_key(key).sign(message, PKCS1v15(), algorithm)).decode()
    return [*zip(HEADERS, (id, time, signature, "SHA256withRSA"), strict=True), ("PAYPAL-CERT-URL", url)]


def site(known: Certificate | None = None, webhook: str = WEBHOOK) -> Site:
    return Site(options={"webhook_id": webhook}, certificates={URL: known} if known else {})


verify = PayPal().compile([], site(certificate("paypal")))


def test_a_transmission_passes_once() -> None:
    first = verify(request(BODY, *transmission()), NOW)
    assert isinstance(first, Verified)
    assert first.secret == NO_SECRET
    assert first.nonce is not None
    assert len(first.nonce) == 16
    assert verify(request(BODY, *transmission()), NOW + 60) == first
    again = verify(request(BODY, *transmission(id="another")), NOW)
    assert isinstance(again, Verified)
    assert again.nonce != first.nonce


def with_the_crc_of(model: bytes, body: bytes) -> bytes:
    """The body and four bytes, which give it the CRC-32 of the model: CRC-32 is linear, so they can be computed."""
    basis = [zlib.crc32(body + (1 << bit).to_bytes(4, "little")) ^ zlib.crc32(body + bytes(4)) for bit in range(32)]
    left, chosen = zlib.crc32(model) ^ zlib.crc32(body + bytes(4)), 0
    rows = [(value, 1 << bit) for bit, value in enumerate(basis)]
    for bit in range(32):  # Gaussian elimination over GF(2)
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows.remove(pivot)
        rows = [(v ^ pivot[0], c ^ pivot[1]) if v >> bit & 1 else (v, c) for v, c in rows]
        if left >> bit & 1:
            left, chosen = left ^ pivot[0], chosen ^ pivot[1]
    return body + chosen.to_bytes(4, "little")


def test_another_body_with_the_same_crc_comes_with_the_same_nonce_and_so_is_a_duplicate() -> None:
    forged = with_the_crc_of(BODY, b'{"id":"FORGED","event_type":"PAYMENT.SALE.COMPLETED"}  ')
    assert forged != BODY
    assert verify(request(forged, *transmission()), NOW) == verify(request(BODY, *transmission()), NOW)


def test_a_certificate_that_is_not_known_is_wanted() -> None:
    fresh = PayPal().compile([], site())
    assert fresh(request(BODY, *transmission()), NOW) == Wanted(URL)
    sandbox = URL.replace("api.", "api.sandbox.")
    assert fresh(request(BODY, *transmission(url=sandbox)), NOW) == Wanted(sandbox)


@pytest.mark.parametrize(
    "url",
    [
        URL.replace("https", "http"),
        URL.replace("api.paypal.com", "api.paypal.com.evil.example"),
        URL.replace("api.paypal.com", "evil.example"),
        URL.replace("api.paypal.com", "api.paypal.com:444"),
        URL.replace("api.paypal.com", "api.paypal.com@evil.example"),
        URL.replace("api.paypal.com", "www.paypal.com"),
        URL.replace("api.paypal.com", "apixpaypal.com"),
        URL.replace("certs/", "certs/../../"),
        URL + "?x=1",
        URL + "#x",
        URL + "/",
        URL + "\x00",
        " " + URL,
        URL[:-9] + "☸",
        URL + "A" * 100,
        "",
    ],
)
def test_no_other_address_is_wanted(url: str) -> None:
    assert isinstance(PayPal().compile([], site())(request(BODY, *transmission(url=url)), NOW), Refused)


def test_damage_is_refused() -> None:
    good = transmission()
    assert_all_refused(verify, forgeries(BODY, good, HEADERS), NOW)
    assert isinstance(verify(request(BODY, *good[:-1]), NOW), Refused)
    assert isinstance(verify(request(BODY, *good, good[-1]), NOW), Refused)
    for bad in (
        transmission(webhook="another"),
        transmission(key="other"),
        transmission(algorithm=SHA1()),
        transmission(id="a|b"),
        changed(good, "PAYPAL-AUTH-ALGO", "SHA1withRSA"),
        changed(good, "PAYPAL-TRANSMISSION-TIME", when(NOW + 1)),
    ):
        assert isinstance(verify(request(BODY, *bad), NOW), Refused)


def test_retries_of_three_days_pass_and_older_or_future_times_do_not() -> None:
    assert isinstance(verify(request(BODY, *transmission(time=when(NOW - 3 * 86400))), NOW), Verified)
    for moment in (NOW - RETRIES - 1, NOW + RETRIES + 1):
        verdict = verify(request(BODY, *transmission(time=when(moment))), NOW)
        assert verdict == Refused("the transmission's time is 345601 s from now")
    for text in ("yesterday", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", ""):
        assert isinstance(verify(request(BODY, *transmission(time=text)), NOW), Refused)
    with_offset = datetime.fromtimestamp(NOW, UTC).isoformat()
    assert isinstance(verify(request(BODY, *transmission(time=with_offset)), NOW), Verified)


def test_a_certificate_is_used_only_while_it_is_valid_and_only_if_it_holds_an_rsa_key() -> None:
    moment = datetime.fromtimestamp(NOW, UTC)
    for known in (
        certificate("paypal", start=moment - timedelta(days=2), days=1),
        certificate("paypal", start=moment + timedelta(days=1), days=1),
    ):
        verdict = PayPal().compile([], site(known))(request(BODY, *transmission()), NOW)
        assert verdict == Refused("the sender's certificate is not valid at this time")
    elliptic = (
        CertificateBuilder()
        .subject_name(Name([]))
        .issuer_name(Name([]))
        .public_key(generate_private_key(SECP256R1()).public_key())
        .serial_number(1)
        .not_valid_before(moment)
        .not_valid_after(moment + timedelta(days=1))
        .sign(rsa_key("paypal"), SHA256())
    )
    verdict = PayPal().compile([], site(elliptic))(request(BODY, *transmission()), NOW)
    assert verdict == Refused("the sender's certificate holds no RSA key")


@pytest.mark.parametrize("webhook", ["", "a b", "a|b", "☸", "x" * 65])
def test_without_a_webhook_id_everything_is_refused(webhook: str) -> None:
    assert PayPal().faults(site(webhook=webhook))[0].startswith("options.webhook_id: expected")
    verdict = PayPal().compile([], site(certificate("paypal"), webhook))(
        request(BODY, *transmission(webhook=webhook)), NOW
    )
    assert verdict == Refused("the source has no usable webhook_id")


def test_it_has_no_secret() -> None:
    assert PayPal().secretless
    with pytest.raises(ValueError, match="expected no secret"):
        PayPal().check_secret(b"x")
