"""Whatever the preset, a request passes if the sender signed exactly it, with one of our secrets, and no
other does.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.providers import PRESETS
from ingest.signing import sign
from ingest.verify.schemes import (
    NO_SECRET,
    Refused,
    Verified,
    Verifier,
    headers_of,
    refuse_all,
)
from tests.unit.ingest.requests import NOW, SECRETS, changed, compile_scheme, request, without

SIGNED = ("github", "standard", "stripe", "generic")
SIGNATURE = {
    "github": "X-Hub-Signature-256",
    "standard": "webhook-signature",
    "stripe": "Stripe-Signature",
    "generic": "X-Signature",
}
BODY = '{"type":"order.paid","note":"Mühle ☸"}'.encode()


def verifier(preset: str, *secrets: str) -> Verifier:
    return compile_scheme(PRESETS[preset].scheme, [secret.encode() for secret in secrets or (SECRETS[preset],)])


def signed(preset: str, body: bytes = BODY, now: float = NOW) -> list[tuple[str, str]]:
    return sign(preset, SECRETS[preset], "order.paid", "msg_1", body, now)


@pytest.mark.parametrize("preset", SIGNED)
@pytest.mark.parametrize("body", [BODY, b"", b"\x00\xff\xfe", b"x" * 100_000], ids=["json", "empty", "bytes", "large"])
def test_what_the_sender_signed_passes(preset: str, body: bytes) -> None:
    assert verifier(preset)(request(body, *signed(preset, body)), NOW) == Verified(0)


@pytest.mark.parametrize("preset", SIGNED)
def test_an_altered_body_is_refused(preset: str) -> None:
    for altered in (BODY + b" ", BODY[:-1], b"", BODY.replace(b"paid", b"Paid")):
        assert verifier(preset)(request(altered, *signed(preset)), NOW) == Refused("no signature matches")


@pytest.mark.parametrize("preset", SIGNED)
def test_another_secret_is_refused_and_either_of_two_passes(preset: str) -> None:
    other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    incoming = request(BODY, *signed(preset))
    assert isinstance(verifier(preset, other)(incoming, NOW), Refused)
    assert verifier(preset, other, SECRETS[preset])(incoming, NOW) == Verified(1)
    assert verifier(preset, SECRETS[preset], other)(incoming, NOW) == Verified(0)


@pytest.mark.parametrize("preset", SIGNED)
def test_blank_secrets_match_nothing(preset: str) -> None:
    incoming = request(BODY, *signed(preset))
    assert verifier(preset, "", SECRETS[preset])(incoming, NOW) == Verified(1)
    for secrets in ([], [b""], [b" \n"], [b"whsec_"] if preset == "standard" else [b""]):
        refuse = compile_scheme(PRESETS[preset].scheme, secrets)
        assert refuse(incoming, NOW) == Refused("the source has no usable secret")


@pytest.mark.parametrize("preset", SIGNED)
def test_a_missing_or_empty_signature_is_refused(preset: str) -> None:
    name = SIGNATURE[preset]
    expected = Refused(f"header {name.lower()} is missing")
    assert verifier(preset)(request(BODY, *without(signed(preset), name)), NOW) == expected
    assert verifier(preset)(request(BODY, *changed(signed(preset), name, "")), NOW) == expected


@pytest.mark.parametrize("preset", SIGNED)
@pytest.mark.parametrize("second", ["same", "bad", ""])
def test_a_repeated_signature_header_lets_none_pass(preset: str, second: str) -> None:
    headers = signed(preset)
    name = SIGNATURE[preset]
    good = dict(headers)[name]
    extra = (name, good if second == "same" else second)
    for pair in ([*headers, extra], [extra, *headers]):
        assert verifier(preset)(request(BODY, *pair), NOW) == Refused(f"header {name.lower()} came more than once")


@pytest.mark.parametrize("preset", ["standard", "stripe"])
@pytest.mark.parametrize(("age", "passes"), [(0, True), (300, True), (301, False), (-300, True), (-301, False)])
def test_time_is_checked_both_ways(preset: str, age: float, passes: bool) -> None:
    verdict = verifier(preset)(request(BODY, *signed(preset)), NOW + age)
    assert isinstance(verdict, Verified) == passes
    if not passes:
        side = "old" if age > 0 else "ahead"
        assert verdict == Refused(f"the timestamp is 301 s {side}; at most 300 s are accepted")


@pytest.mark.parametrize("stamp", ["", "soon", "-1", "1e9", "177244560٣", "1772445600.0", " 1772445600", "9" * 17])
def test_a_timestamp_that_is_no_whole_number_is_refused(stamp: str) -> None:
    headers = changed(signed("standard"), "webhook-timestamp", stamp)
    assert isinstance(verifier("standard")(request(BODY, *headers), NOW), Refused)
    signature = dict(signed("stripe"))["Stripe-Signature"].replace(f"t={int(NOW)}", f"t={stamp}")
    assert isinstance(verifier("stripe")(request(BODY, ("Stripe-Signature", signature)), NOW), Refused)


@pytest.mark.parametrize("preset", SIGNED)
@given(text=st.text(max_size=200))
def test_no_text_in_the_signature_header_passes_or_raises(preset: str, text: str) -> None:
    headers = changed(signed(preset), SIGNATURE[preset], text.encode("utf-8", "replace").decode())
    verdict = verifier(preset)(request(BODY, *headers), NOW)
    assert isinstance(verdict, Refused)
    assert SECRETS[preset] not in verdict.reason


@given(raw=st.lists(st.tuples(st.sampled_from([b"a", b"b", b"x-signature"]), st.binary(max_size=20))))
def test_headers_keep_what_came_once_and_never_choose(raw: list[tuple[bytes, bytes]]) -> None:
    headers = headers_of(raw)
    for name in {name for name, _ in raw}:
        values = [value for key, value in raw if key == name]
        assert headers[name] == b"\n".join(values)


def test_without_a_scheme_everything_passes_and_nothing_matched() -> None:
    assert verifier("none")(request(b"anything"), NOW) == Verified(NO_SECRET)


def test_a_source_that_cannot_verify_refuses_everything() -> None:
    assert refuse_all("the reason")(request(BODY), NOW) == Refused("the reason")
