"""HMAC by description, the less usual forms: numbered headers, other pairs, times of every kind, signed addresses."""

from __future__ import annotations

import base64
import hmac as reference

import pytest

from ingest.verify.base import MOST_SIGNATURES
from ingest.verify.schemes import Hmac, Incoming, Pairs, Refused, Site, Timestamp, Verified
from tests.unit.ingest.requests import NOW, compile_scheme, request

BODY = b'{"a":1}'
URL = "https://hooks.example.com/in/test"


def by(key: bytes, signed: bytes, algorithm: str = "sha256") -> str:
    return reference.new(key, signed, algorithm).hexdigest()


def b64(key: bytes, signed: bytes) -> str:
    return base64.b64encode(reference.new(key, signed, "sha256").digest()).decode()


def test_any_of_the_numbered_headers_may_match_any_secret() -> None:
    scheme = Hmac(header="X-DocuSign-Signature-{n}", encoding="base64")
    verify = compile_scheme(scheme, [b"old", b"new"])
    good = b64(b"new", BODY)
    first, second, third = (f"X-DocuSign-Signature-{n}" for n in (1, 2, 3))
    assert verify(request(BODY, (first, good)), NOW) == Verified(1)
    assert verify(request(BODY, (first, "other"), (second, good)), NOW) == Verified(1)
    assert verify(request(BODY, (first, good), (first, good), (second, good)), NOW) == Verified(1)
    for refused in (
        request(BODY),
        request(BODY, (second, good)),
        request(BODY, (first, good), (first, good)),
        request(BODY, (first, ""), (third, good)),
        request(BODY, ("X-DocuSign-Signature-{n}", good)),
        request(BODY, *((f"X-DocuSign-Signature-{n}", "x") for n in range(1, 17)), ("X-DocuSign-Signature-17", good)),
    ):
        assert isinstance(verify(refused, NOW), Refused)
    assert scheme.proof_headers() == ()


def test_a_numbered_header_without_the_prefix_counts_for_none() -> None:
    verify = compile_scheme(Hmac(header="X-{n}", prefix="sha256="), [b"k"])
    good = by(b"k", BODY)
    assert verify(request(BODY, ("X-1", "old"), ("X-2", f"sha256={good}")), NOW) == Verified(0)
    assert isinstance(verify(request(BODY, ("X-1", f"SHA256={good}")), NOW), Refused)
    assert isinstance(verify(request(BODY, ("X-1", good.rjust(len(good) + 7, "0"))), NOW), Refused)


def test_a_path_has_no_slash_at_its_end_that_could_be_the_body_s() -> None:
    verify = compile_scheme(Hmac(header="X-S", signed="{path}/{body}"), [b"k"])
    signature = {b"x-s": by(b"k", b"/in/a//b").encode()}
    assert verify(Incoming("POST", "/in/a", b"", signature, b"/b"), NOW) == Verified(0)
    assert isinstance(verify(Incoming("POST", "/in/a/", b"", signature, b"b"), NOW), Refused)


def test_one_good_signature_among_the_pairs_passes_up_to_a_limit() -> None:
    verify = compile_scheme(Hmac(header="X-S", pairs=Pairs()), [b"k"])
    for others, passes in ((MOST_SIGNATURES - 1, True), (MOST_SIGNATURES + 1, False), (1000, False)):
        value = ",".join([*["v1=00"] * others, f"v1={by(b'k', BODY)}"])
        assert isinstance(verify(request(BODY, ("X-S", value)), NOW), Verified) == passes


def test_pairs_may_be_separated_by_semicolons_and_need_no_time() -> None:
    paddle = Hmac(
        header="Paddle-Signature",
        pairs=Pairs(separator=";", signature="h1", timestamp="ts"),
        signed="{timestamp}:{body}",
        timestamp=Timestamp(tolerance=5),
    )
    verify, good = compile_scheme(paddle, [b"k"]), by(b"k", b"%d:" % NOW + BODY)
    assert verify(request(BODY, ("Paddle-Signature", f"ts={NOW:.0f};h1=0;h1={good}")), NOW) == Verified(0)
    assert isinstance(verify(request(BODY, ("Paddle-Signature", f"ts={NOW:.0f},h1={good}")), NOW), Refused)
    plain = compile_scheme(Hmac(header="X-S", pairs=Pairs()), [b"k"])
    assert plain(request(BODY, ("X-S", f"v1=0,v1={by(b'k', BODY)}")), NOW) == Verified(0)
    assert isinstance(plain(request(BODY, ("X-S", f"v2={by(b'k', BODY)}")), NOW), Refused)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
def test_every_algorithm_of_the_family(algorithm: str) -> None:
    scheme = Hmac(header="X-S", algorithm=algorithm)  # type: ignore[arg-type]
    assert compile_scheme(scheme, [b"k"])(request(BODY, ("X-S", by(b"k", BODY, algorithm))), NOW) == Verified(0)


ISO = Hmac(
    header="X-S",
    signed="{timestamp}{body}",
    timestamp=Timestamp(header="X-T", unit="iso8601", tolerance=60),
)


@pytest.mark.parametrize(
    "stamp",
    ["2026-03-02T10:00:00Z", "2026-03-02T10:00:59.999Z", "2026-03-02T12:00:00+02:00", "2026-03-02T04:29:01.5-05:30"],
)
def test_a_time_in_iso_8601_is_read_with_its_zone(stamp: str) -> None:
    verify = compile_scheme(ISO, [b"k"])
    headers = (("X-S", by(b"k", stamp.encode() + BODY)), ("X-T", stamp))
    assert verify(request(BODY, *headers), NOW) == Verified(0)
    assert isinstance(verify(request(BODY, *headers), NOW + 121), Refused)
    assert isinstance(verify(request(BODY, *headers), NOW - 121), Refused)


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-03-02T10:00:00",
        "2026-03-02",
        "20260302T100000Z",
        "2026-03-02 10:00:00Z",
        "2026-13-02T10:00:00Z",
        "2026-03-02T10:00:00+00:00:30",
        "0001-01-01T00:00:00+23:59",
        "1772445600",
        "now",
        "٢026-03-02T10:00:00Z",
        "2026-03-02T10:00:00Z" * 1000,
    ],
)
def test_a_time_without_zone_or_sense_is_refused(stamp: str) -> None:
    headers = (("X-S", by(b"k", stamp.encode() + BODY)), ("X-T", stamp))
    assert isinstance(compile_scheme(ISO, [b"k"])(request(BODY, *headers), NOW), Refused)


IN_BODY = Hmac(header="X-S", timestamp=Timestamp(unit="ms", tolerance=60, pointer="/sent/at"))


@pytest.mark.parametrize(
    ("sent", "passes"),
    [
        (f"{NOW * 1000:.0f}", True),
        (f'"{NOW * 1000:.0f}"', True),
        (f"{(NOW - 60) * 1000:.0f}", True),
        (f"{(NOW - 61) * 1000:.0f}", False),
        (f"{(NOW + 61) * 1000:.0f}", False),
        (f"{NOW:.0f}", False),
        (f"{NOW * 1000:.1f}", False),
        (f"-{NOW * 1000:.0f}", False),
        ("null", False),
        ("{}", False),
        ("1e400", False),
        ('"\\ud800"', False),
    ],
)
def test_a_time_in_the_signed_body_is_checked(sent: str, passes: bool) -> None:
    body = f'{{"sent":{{"at":{sent}}}}}'.encode()
    verdict = compile_scheme(IN_BODY, [b"k"])(request(body, ("X-S", by(b"k", body))), NOW)
    assert isinstance(verdict, Verified) == passes


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_signed_body_without_its_time_is_refused(body: bytes) -> None:
    verdict = compile_scheme(IN_BODY, [b"k"])(request(body, ("X-S", by(b"k", body))), NOW)
    assert verdict == Refused("the body has no time at /sent/at")


def test_the_digits_of_a_time_cannot_be_taken_from_the_body() -> None:
    scheme = Hmac(header="X-S", signed="{body}{timestamp}", timestamp=Timestamp(header="X-T"))
    verify, stamp = compile_scheme(scheme, [b"k"]), f"{NOW:.0f}"
    signature = ("X-S", by(b"k", b"1000" + stamp.encode()))
    assert verify(request(b"1000", signature, ("X-T", stamp)), NOW) == Verified(0)
    assert isinstance(verify(request(b"1", signature, ("X-T", "000" + stamp)), NOW), Refused)


def test_an_address_that_is_signed_right_before_the_body_cannot_take_of_it() -> None:
    verify = compile_scheme(Hmac(header="X-S", signed="{url}{body}"), [b"k"], URL)
    signature = ("X-S", by(b"k", f"{URL}?a=1".encode() + b'{"b":2}'))
    assert verify(request(b'{"b":2}', signature, query=b"a=1"), NOW) == Verified(0)
    for body, query in ((b'"b":2}', b"a=1{"), (b"", b'a=1{"b":2}'), (b'?a=1{"b":2}', b""), (b'=1{"b":2}', b"a")):
        verdict = verify(request(body, signature, query=query), NOW)
        assert verdict == Refused("where the address ends in the signed text is ambiguous")
    empty = ("X-S", by(b"k", f"{URL}?a=1".encode()))
    assert verify(request(b"", empty, query=b"a=1"), NOW) == Verified(0)
    assert isinstance(verify(request(b"?a=1", empty), NOW), Refused)


def test_a_query_cannot_swallow_what_follows_it() -> None:
    verify = compile_scheme(Hmac(header="X-S", signed="{path}?{query}.{body}"), [b"k"])
    signature = ("X-S", by(b"k", b"/in/test?a.b.c"))
    assert isinstance(verify(request(b"c", signature, query=b"a.b"), NOW), Refused)
    assert verify(request(b"b.c", signature, query=b"a"), NOW) == Verified(0)


def test_an_id_cannot_lean_on_a_separator_that_repeats_itself() -> None:
    verify = compile_scheme(Hmac(header="X-S", signed="{id}aa{body}", id_header="X-Id"), [b"k"])
    signature = ("X-S", by(b"k", b"baaax"))
    assert verify(request(b"ax", signature, ("X-Id", "b")), NOW) == Verified(0)
    assert isinstance(verify(request(b"x", signature, ("X-Id", "ba")), NOW), Refused)
    last = compile_scheme(Hmac(header="X-S", signed="{body}.{id}", id_header="X-Id"), [b"k"])
    signature = ("X-S", by(b"k", b"a.b.c"))
    assert last(request(b"a.b", signature, ("X-Id", "c")), NOW) == Verified(0)
    assert isinstance(last(request(b"a", signature, ("X-Id", "b.c")), NOW), Refused)


@pytest.mark.parametrize(
    ("scheme", "fault"),
    [
        (Hmac(header="X-{n}-{n}"), "header: expected a name, in which {n} may stand once"),
        (Hmac(header="X-{m}"), "header: expected a name, in which {n} may stand once"),
        (Hmac(header="X", signed="{id}{body}", id_header="I"), "signed: expected text between {id} and the parts"),
        (Hmac(header="X", signed="{body}{id}", id_header="I"), "signed: expected text between {id} and the parts"),
        (Hmac(header="X", signed="{query}{method}{body}"), "signed: expected text between {query} and the parts"),
        (Hmac(header="X", signed="{body}{query}"), "signed: expected text between {query} and the parts"),
        (Hmac(header="X", timestamp=Timestamp(pointer="x")), "timestamp.pointer: expected a JSON Pointer"),
        (Hmac(header="X", timestamp=Timestamp("T", pointer="/x")), "timestamp: expected one of header, pointer and"),
        (Hmac(header="X", signed="{timestamp}{body}", timestamp=Timestamp()), "timestamp: expected one of header, po"),
        (
            Hmac(header="X", signed="{timestamp}{body}", timestamp=Timestamp("T"), pairs=Pairs(timestamp="t")),
            "timestamp: expected one of header, pointer and pairs.timestamp, got 2 of them",
        ),
        (
            Hmac(header="X", signed="{timestamp}{body}", timestamp=Timestamp(pointer="/x")),
            "signed: expected no {timestamp}, because the time stands in the body",
        ),
    ],
)
def test_a_description_that_leaves_a_border_open_is_a_fault_and_refuses(scheme: Hmac, fault: str) -> None:
    faults = scheme.faults(Site(URL))
    assert len(faults) == 1
    assert faults[0].startswith(fault)
    assert isinstance(compile_scheme(scheme, [b"k"], URL)(request(BODY), NOW), Refused)
