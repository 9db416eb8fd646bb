"""Whatever the preset: what its sender signed passes, with any of our secrets and in time, and nothing else does."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import ConfigError
from ingest.providers import PRESETS
from ingest.signing import SIGNABLE, Draft, sign, sign_as
from ingest.signing_senders import SENDERS
from ingest.sources import parse_source
from ingest.verify.schemes import Refused, Verified
from tests.unit.ingest.requests import NOW, changed, without
from tests.unit.ingest.senders import PLAYERS, URL, arrived, sent, verifier

NAMES = tuple(PLAYERS)
SIGNED = [name for name in NAMES if PLAYERS[name].signs_body]
TIMED = [name for name in NAMES if PLAYERS[name].tolerance]
BODIES = [(name, body) for name in NAMES for body in PLAYERS[name].bodies]
PROOFS = [(name, proof) for name in NAMES for proof in PLAYERS[name].proofs]
PRIVATE = ("sendgrid", "discord", "paypal", "sns")


def test_every_preset_is_played_or_signs_with_a_key_of_its_own() -> None:
    assert {*NAMES, *PRIVATE, "none"} == set(PRESETS)
    assert {*NAMES, "none"} == set(SIGNABLE) == set(SENDERS)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_sender_signed_passes(name: str) -> None:
    verdict = verifier(name)(arrived(sent(name)), NOW)
    assert isinstance(verdict, Verified)
    assert verdict.secret == 0
    assert (verdict.nonce is not None) == (name == "mailgun")


@pytest.mark.parametrize(("name", "body"), BODIES, ids=lambda value: value if isinstance(value, str) else "")
def test_any_body_that_the_sender_could_send_passes(name: str, body: bytes) -> None:
    assert isinstance(verifier(name)(arrived(sent(name, body)), NOW), Verified)


@pytest.mark.parametrize("name", SIGNED)
def test_an_altered_body_is_refused(name: str) -> None:
    one = sent(name)
    altered = [one.body.replace(b'"type"', b'"kind"'), one.body.replace(b"EUR", b"USD"), b"", b"{}", b"\xff" + one.body]
    if name != "adyen":  # its items are signed, not the spaces between them
        altered += [one.body + b" ", one.body[:-1]]
    for body in altered:
        if body != one.body:
            assert isinstance(verifier(name)(arrived(one, body=body), NOW), Refused), body[:80]


@pytest.mark.parametrize("name", NAMES)
def test_another_secret_is_refused_and_either_of_two_passes(name: str) -> None:
    own, other, incoming = PLAYERS[name].secret, PLAYERS[name].other, arrived(sent(name))
    assert isinstance(verifier(name, other)(incoming, NOW), Refused)
    for secrets, index in (((other, own), 1), ((own, other), 0), (("", own), 1), ((own, own), 0)):
        verdict = verifier(name, *secrets)(incoming, NOW)
        assert isinstance(verdict, Verified)
        assert verdict.secret == index
    assert isinstance(verifier(name)(arrived(sent(name, secret=other)), NOW), Refused)


@pytest.mark.parametrize("name", NAMES)
def test_blank_secrets_match_nothing_and_sign_nothing(name: str) -> None:
    incoming = arrived(sent(name))
    for secret in ("", " ", "\n"):
        assert isinstance(verifier(name, secret)(incoming, NOW), Refused)
        with pytest.raises(ConfigError, match="secret: expected"):
            sent(name, secret=secret)
        with pytest.raises(ValueError, match="expected"):
            PRESETS[name].scheme.check_secret(secret.encode())
    PRESETS[name].scheme.check_secret(PLAYERS[name].secret.encode())


@pytest.mark.parametrize(("name", "proof"), PROOFS)
def test_a_proof_that_is_missing_empty_or_repeated_lets_nothing_pass(name: str, proof: str) -> None:
    one = sent(name)
    value = {key.lower(): text for key, text in one.headers}[proof.lower()]
    for headers in (
        without(one.headers, proof),
        changed(one.headers, proof, ""),
        changed(one.headers, proof, value[:-2]),
        changed(one.headers, proof, value + "0"),
        changed(one.headers, proof, "☸" + value),
        changed(one.headers, proof, value[::-1]),
        [*one.headers, (proof, value)],
        [(proof, value), *one.headers],
        [*one.headers, (proof, "")],
        [*one.headers, (proof, "other")],
    ):
        assert isinstance(verifier(name)(arrived(one, headers), NOW), Refused), headers


@pytest.mark.parametrize("name", TIMED)
def test_time_is_checked_both_ways(name: str) -> None:
    tolerance = PLAYERS[name].tolerance
    for off, passes in ((tolerance, True), (-tolerance, True), (tolerance + 1, False), (-tolerance - 1, False)):
        verdict = verifier(name)(arrived(sent(name)), NOW + off)
        assert isinstance(verdict, Verified) == passes, (off, verdict)
        if isinstance(verdict, Refused):
            assert verdict.reason.startswith("the timestamp is ")


@pytest.mark.parametrize("name", [name for name in NAMES if not PLAYERS[name].tolerance])
def test_without_a_time_no_time_is_checked(name: str) -> None:
    assert isinstance(verifier(name)(arrived(sent(name)), NOW + 1e9), Verified)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_a_scheme_says_shows_a_secret(name: str) -> None:
    scheme = PRESETS[name].scheme
    verdicts = [
        verifier(name)(arrived(sent(name), [], b""), NOW),
        verifier(name)(arrived(sent(name), secret_first(name)), NOW),
    ]
    for text in (scheme.summary(), *(str(verdict) for verdict in verdicts)):
        assert PLAYERS[name].secret not in text


def secret_first(name: str) -> list[tuple[str, str]]:
    return [(key, value.swapcase()) for key, value in sent(name).headers]


@pytest.mark.parametrize("name", [name for name in NAMES if PLAYERS[name].proofs])
@given(text=st.text(max_size=200))
@settings(max_examples=40, deadline=None)
def test_no_text_in_a_proof_passes_or_raises(name: str, text: str) -> None:
    one = sent(name)
    for proof in PLAYERS[name].proofs[:1]:
        value = dict(one.headers).get(proof)
        headers = changed(one.headers, proof, text.encode("utf-8", "replace").decode())
        verdict = verifier(name)(arrived(one, headers), NOW)
        assert isinstance(verdict, Refused) or text == value


def test_what_signs_the_url_passes_under_no_other() -> None:
    for name in ("square", "twilio", "hubspot"):
        one = sent(name)
        assert PRESETS[name].needs_url
        moved = msgspec.structs.replace(one, query=f"{one.query}&a=1".strip("&"))
        assert isinstance(verifier(name)(arrived(moved), NOW), Refused)
        with pytest.raises(ConfigError, match="url: expected the source's public URL"):
            sign_as(name, Draft("s", "e", "i", b"{}", NOW))


def test_a_signing_token_of_gitlab_is_a_standard_webhook() -> None:
    token = PLAYERS["standard"].secret
    one = sent("gitlab", secret=token)
    verify = verifier("gitlab", "a secret token", token)
    assert verify(arrived(one), NOW) == Verified(1)
    assert isinstance(verify(arrived(one, body=b"{}"), NOW), Refused)
    assert isinstance(verify(arrived(one), NOW + 301), Refused)


def test_cloudevents_may_have_their_token_in_the_query() -> None:
    verify = verifier("cloudevents", "a b&c")
    one = msgspec.structs.replace(sent("cloudevents"), query="access_token=a+b%26c")
    assert verify(arrived(one, []), NOW) == Verified(0)
    assert isinstance(verify(arrived(msgspec.structs.replace(one, query="access_token=a"), []), NOW), Refused)


@pytest.mark.parametrize("name", PRIVATE)
def test_nobody_signs_with_the_private_key_of_a_provider(name: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot sign as {PRESETS[name].title}"):
        sign_as(name, Draft("s", "e", "i", b"{}", NOW, URL))


@pytest.mark.parametrize(("name", "body"), [("linear", b"[]"), ("mailgun", b""), ("adyen", b"{}"), ("adyen", b"\xff")])
def test_who_signs_within_the_body_needs_one_of_its_form(name: str, body: bytes) -> None:
    with pytest.raises(ConfigError, match="body: expected"):
        sent(name, body)


def test_headers_alone_are_not_enough_for_who_signs_within_the_body() -> None:
    with pytest.raises(ConfigError, match="expected one that signs beside the body, got 'linear'"):
        sign("linear", "s", "e", "i", b"{}", NOW)


@pytest.mark.parametrize("name", NAMES)
def test_a_source_of_every_preset_can_be_written_down_and_stored(name: str) -> None:
    player = PLAYERS[name]
    definition = parse_source({"source": "a", "preset": name, "secrets": [player.secret], "url": URL})
    assert definition.preset == name
    assert player.secret.encode() not in msgspec.json.encode(definition)
