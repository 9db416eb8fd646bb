"""Mailgun: a token passes for what it was signed for, and its hash comes along so that it passes once."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.verify.base import Refused, Site, Verified
from ingest.verify.mailgun import MOST_BYTES, MOST_TOKEN, RETRIES, Mailgun
from tests.unit.ingest.requests import NOW, request

KEY = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0"
TOKEN = "e0b5477167110d68991efc6b9f89f0a11066af27834600e123"
verify = Mailgun().compile([b"old", KEY.encode()], Site())


def block(token: str = TOKEN, at: float = NOW, key: str = KEY, **more: Any) -> dict[str, Any]:
    """As documentation.mailgun.com, "Securing Webhooks", has it: concatenate timestamp and token."""
    stamp = str(int(at))
    signature = hmac.new(key.encode(), (stamp + token).encode(), hashlib.sha256).hexdigest()
    return {"timestamp": stamp, "token": token, "signature": signature} | more


def verdict(signature: Any, now: float = NOW, event: str = "1") -> object:
    return verify(request(json.dumps({"event-data": {"id": event}, "signature": signature}).encode()), now)


def test_a_signed_token_passes_once() -> None:
    first = verdict(block())
    assert isinstance(first, Verified)
    assert first.secret == 1
    assert first.nonce is not None
    assert len(first.nonce) == 16
    assert verdict(block(), event="forged") == first
    assert verdict(block(at=NOW - 60)) == first
    other = verdict(block("another"))
    assert isinstance(other, Verified)
    assert other.nonce != first.nonce


def test_a_number_as_timestamp_and_capitals_in_the_signature_pass() -> None:
    good = block()
    assert isinstance(verdict(good | {"timestamp": int(NOW)}), Verified)
    assert verdict(good | {"signature": good["signature"].upper()}) == verdict(good)


def test_a_subaccounts_event_passes_by_its_own_or_the_primary_accounts_key() -> None:
    parent = block()["signature"]
    assert verdict(block(key="subaccount") | {"parent-signature": parent}) == verdict(block())
    assert isinstance(verdict(block(key="subaccount") | {"parent-signature": ""}), Refused)


def test_retries_of_eight_hours_pass_and_older_or_future_times_do_not() -> None:
    assert isinstance(verdict(block(), NOW + 8.5 * 3600), Verified)
    for now in (NOW + RETRIES + 1, NOW - RETRIES - 1):
        late = verdict(block(), now)
        assert isinstance(late, Refused)
        assert "43201 s" in late.reason


@pytest.mark.parametrize(
    "damage",
    [
        {"token": TOKEN + "0"},
        {"token": "0" + TOKEN},
        {"token": ""},
        {"token": "x" * (MOST_TOKEN + 1)},
        {"token": None},
        {"timestamp": str(int(NOW) + 1)},
        {"timestamp": "-1"},
        {"timestamp": True},
        {"timestamp": 1.5},
        {"timestamp": "☸"},
        {"timestamp": ""},
        {"signature": ""},
        {"signature": "0" * 64},
        {"signature": "☸"},
        {"signature": None},
        {"signature": ["x"]},
    ],
)
def test_damage_is_refused(damage: dict[str, Any]) -> None:
    assert isinstance(verdict(block() | damage), Refused)


def test_a_token_that_is_none_is_refused_however_well_it_is_signed() -> None:
    for token in ("", "x" * (MOST_TOKEN + 1)):
        assert verdict(block(token)) == Refused("the token is empty or too long")
    assert isinstance(verdict(block("x" * MOST_TOKEN)), Verified)


def test_a_number_that_python_will_not_write_out_is_refused() -> None:
    body = json.dumps({"signature": block() | {"timestamp": 0}}).replace(": 0", ": 1" + "0" * 5000)
    assert isinstance(verify(request(body.encode()), NOW), Refused)


def test_the_border_between_time_and_token_cannot_be_moved() -> None:
    good = block("7" + TOKEN)
    assert isinstance(verdict(good), Verified)
    assert isinstance(verdict(good | {"timestamp": good["timestamp"] + "7", "token": TOKEN}), Refused)
    moved = {"timestamp": good["timestamp"][:-1], "token": good["timestamp"][-1] + good["token"]}
    assert isinstance(verdict(good | moved), Refused)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"signature":null}',
        b'{"signature":{}}',
        b"\xff",
        b"[" * 100_000,
        b"token=a&x=b",
        b'{"a":' * 100_000,
    ],
)
def test_a_body_without_a_signature_is_refused(body: bytes) -> None:
    assert verify(request(body), NOW) == Refused("the body holds no signature with timestamp, token and signature")


@given(st.text(max_size=60), st.text(max_size=70))
def test_no_token_passes_with_a_signature_that_is_not_its_own(token: str, signature: str) -> None:
    assert isinstance(verdict(block() | {"token": token, "signature": signature}), Refused)


def test_the_longest_body_passes_and_a_longer_one_is_not_read() -> None:
    body = json.dumps({"signature": block()}).encode()
    assert isinstance(verify(request(body.ljust(MOST_BYTES)), NOW), Verified)
    expected = Refused(f"the body has {MOST_BYTES + 1} bytes; at most {MOST_BYTES} are accepted")
    assert verify(request(body.ljust(MOST_BYTES + 1)), NOW) == expected


def test_another_key_and_no_key_are_refused() -> None:
    body = json.dumps({"signature": block()}).encode()
    assert isinstance(Mailgun().compile([b"another"], Site())(request(body), NOW), Refused)
    assert Mailgun().compile([b""], Site())(request(body), NOW) == Refused("the source has no usable secret")
