"""HMAC by description: the documented vectors, every algorithm and encoding, and templates that cannot be
gamed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac as reference

import pytest

from ingest.providers import PRESETS
from ingest.verify.schemes import Hmac, Refused, Site, Timestamp, Verified
from tests.unit.ingest.requests import NOW, SECRET, compile_scheme, request

BODY = b"Hello, World!"


def test_githubs_documented_example_passes() -> None:
    """docs.github.com, "Validating webhook deliveries": secret, payload and signature as printed there."""
    verify = compile_scheme(PRESETS["github"].scheme, [SECRET.encode()])
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert verify(request(BODY, ("X-Hub-Signature-256", signature)), NOW) == Verified(0)
    assert verify(request(BODY + b"!", ("X-Hub-Signature-256", signature)), NOW) == Refused("no signature matches")
    no_prefix = request(BODY, ("X-Hub-Signature-256", signature.removeprefix("sha256=")))
    assert verify(no_prefix, NOW) == Refused("header x-hub-signature-256 does not begin with sha256=")


RFC_4231_CASE_2 = {
    "sha256": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    "sha512": "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
    "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_rfc_4231_case_2_passes(algorithm: str) -> None:
    scheme = Hmac(header="X-Signature", algorithm="sha256" if algorithm == "sha256" else "sha512")
    incoming = request(b"what do ya want for nothing?", ("X-Signature", RFC_4231_CASE_2[algorithm]))
    assert compile_scheme(scheme, [b"Jefe"])(incoming, NOW) == Verified(0)


SCHEMES = [
    Hmac(header="X-S", algorithm=algorithm, encoding=encoding, prefix=prefix)
    for algorithm in ("sha1", "sha256", "sha512")
    for encoding in ("hex", "base64", "base64url")
    for prefix in ("", "v0=")
]


def encoded(scheme: Hmac, digest: bytes) -> str:
    match scheme.encoding:
        case "hex":
            return digest.hex()
        case "base64":
            return base64.b64encode(digest).decode()
        case "base64url":
            return base64.urlsafe_b64encode(digest).decode()


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: f"{s.algorithm}-{s.encoding}-{s.prefix or 'bare'}")
def test_every_algorithm_and_encoding(scheme: Hmac) -> None:
    verify = compile_scheme(scheme, [b"k"])
    text = encoded(scheme, reference.new(b"k", BODY, getattr(hashlib, scheme.algorithm)).digest())

    def verdict(signature: str) -> object:
        return verify(request(BODY, ("X-S", signature)), NOW)

    assert verdict(scheme.prefix + text) == Verified(0)
    other_spelling = text.upper() if scheme.encoding == "hex" else text.rstrip("=")
    assert verdict(scheme.prefix + other_spelling) == Verified(0)
    for wrong in (
        text[:-3],
        text + "00",
        text[:10],
        text[::-1],
        "é" + text[1:],
        " " + text,
        text + "===",
        "",
    ):
        assert isinstance(verdict(scheme.prefix + wrong), Refused), wrong
    if scheme.encoding == "hex":
        mixed = text.upper()[:20] + text[20:]
        assert isinstance(verdict(scheme.prefix + mixed), Refused)


@pytest.mark.parametrize(("key", "secret"), [("text", b"key"), ("hex", b"6b6579"), ("base64", b"a2V5")])
def test_a_secret_may_encode_its_key(key: str, secret: bytes) -> None:
    scheme = Hmac(header="X-S", key="hex" if key == "hex" else "base64" if key == "base64" else "text")
    incoming = request(BODY, ("X-S", reference.new(b"key", BODY, "sha256").hexdigest()))
    assert compile_scheme(scheme, [secret])(incoming, NOW) == Verified(0)
    if key != "text":
        assert compile_scheme(scheme, [b"!"])(incoming, NOW) == Refused("the source has no usable secret")


FULL = Hmac(
    header="X-S",
    signed="v1:{method}:{url}:{id}:{timestamp}:{body}",
    timestamp=Timestamp(header="X-T", unit="ms", tolerance=60),
    id_header="X-Id",
)


def test_a_template_signs_all_its_parts() -> None:
    verify = compile_scheme(FULL, [b"k"], "https://hooks.example.com/in/test")
    stamp = str(int(NOW * 1000))
    text = f"v1:POST:https://hooks.example.com/in/test?a=1:42:{stamp}:".encode() + BODY
    headers = [("X-S", reference.new(b"k", text, "sha256").hexdigest()), ("X-T", stamp), ("X-Id", "42")]
    assert verify(request(BODY, *headers, query=b"a=1"), NOW) == Verified(0)
    for incoming in (
        request(BODY, *headers, query=b"a=2"),
        request(BODY, *headers),
        request(BODY, *headers, query=b"a=1", method="PUT"),
        request(BODY, *headers[:2], ("X-Id", "43"), query=b"a=1"),
        request(BODY, headers[0], headers[2], query=b"a=1"),
        request(BODY, *headers[:2], query=b"a=1"),
        request(BODY, *headers, ("X-T", stamp), query=b"a=1"),
    ):
        assert isinstance(verify(incoming, NOW), Refused)
    assert isinstance(verify(request(BODY, *headers, query=b"a=1"), NOW + 61), Refused)


def test_an_id_cannot_swallow_what_follows_it() -> None:
    scheme = Hmac(header="X-S", signed="{id}.{body}", id_header="X-Id")
    verify = compile_scheme(scheme, [b"k"])
    signature = reference.new(b"k", b"a.b.c", "sha256").hexdigest()
    assert verify(request(b"b.c", ("X-S", signature), ("X-Id", "a")), NOW) == Verified(0)
    moved = verify(request(b"c", ("X-S", signature), ("X-Id", "a.b")), NOW)
    assert moved == Refused("header x-id holds the separator of the signed text")


def test_a_word_of_the_template_that_is_not_a_placeholder_stays_as_it_is() -> None:
    scheme = Hmac(header="X-S", signed="id{body}id{id}.", id_header="X-Id")
    signature = reference.new(b"k", b"idBidI.", "sha256").hexdigest()
    incoming = request(b"B", ("X-S", signature), ("X-Id", "I"))
    assert compile_scheme(scheme, [b"k"])(incoming, NOW) == Verified(0)


@pytest.mark.parametrize(
    ("scheme", "fault"),
    [
        (Hmac(header="X", signed="{id}", id_header="X-Id"), "signed: expected {body} in it"),
        (Hmac(header="X", signed="{body}{bdy}"), "signed: expected only {body}, {timestamp}"),
        (Hmac(header="X", signed="{timestamp}{body}"), "timestamp: expected a header"),
        (Hmac(header="X", timestamp=Timestamp(header="T")), "signed: expected {timestamp} in it"),
        (Hmac(header="X", signed="{id}.{body}"), "signed: expected no {id}"),
        (Hmac(header="X", signed="{url}{body}"), "signed: expected no {url}"),
        (
            Hmac(header="X", signed="{timestamp}{body}", timestamp=Timestamp("T", tolerance=float("inf"))),
            "timestamp.tolerance: expected more than 0 s and at most a week, got inf s",
        ),
    ],
)
def test_a_description_that_authenticates_too_little_is_a_fault_and_refuses(scheme: Hmac, fault: str) -> None:
    assert [found for found in scheme.faults(Site()) if found.startswith(fault)]
    verdict = compile_scheme(scheme, [b"k"])(request(BODY), NOW)
    assert verdict == Refused("the source's signature scheme is not usable")


def test_any_signature_of_stripes_header_may_match_and_the_time_stands_once() -> None:
    verify = compile_scheme(PRESETS["stripe"].scheme, [b"k"])
    good = reference.new(b"k", b"%d." % NOW + BODY, "sha256").hexdigest()
    time = f"t={int(NOW)}"

    def verdict(header: str) -> object:
        return verify(request(BODY, ("Stripe-Signature", header)), NOW)

    assert verdict(f"{time},v1={'0' * 64},v1={good},v0=old") == Verified(0)
    assert verdict(f"v1={good}, {time}") == Verified(0)
    assert verdict(f"{time},v0={good}") == Refused("the signature header holds no v1")
    assert verdict(f"{time},t=1,v1={good}") == Refused("the signature header holds 2 timestamps; one is expected")
    assert verdict(f"v1={good}") == Refused("the signature header holds 0 timestamps; one is expected")
    assert isinstance(verdict(",".join([time, *["v1=0"] * 20, f"v1={good}"])), Refused)
