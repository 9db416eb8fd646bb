"""A secret passes until its end and not after it, whatever else the request is signed with."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import pytest

from ingest.verify.base import NO_SECRET, Incoming, Refused, Site, Verified, Verifier, Wanted
from ingest.verify.ends import with_ends
from ingest.verify.mac import Hmac
from ingest.verify.token import Bearer

OLD, NEW, OTHER = b"old secret", b"new secret", b"another one"
END = 1_800_000_000.0


def bearer(secrets: list[bytes]) -> Verifier:
    return Bearer().compile(secrets, Site())


def asked(token: bytes, body: bytes = b"") -> Incoming:
    return Incoming("POST", "/in/s", b"", {b"authorization": b"Bearer " + token}, body)


@pytest.mark.parametrize("order", [(OLD, NEW), (NEW, OLD)])
def test_each_secret_passes_until_its_end(order: Sequence[bytes]) -> None:
    verify = with_ends(bearer, order, [END if secret == OLD else None for secret in order])
    old, new = order.index(OLD), order.index(NEW)
    assert verify(asked(OLD), END - 0.001) == Verified(old)
    assert verify(asked(OLD), END) == Refused("the secret that matches ended at 2027-01-15 08:00:00 UTC")
    for now in (END - 1, END, END + 1e9):
        assert verify(asked(NEW), now) == Verified(new)
        assert verify(asked(OTHER), now) == Refused("the token does not match")


def test_every_end_counts_by_itself() -> None:
    secrets = [OLD, NEW, OTHER]
    verify = with_ends(bearer, secrets, [END + 20, END + 10, END + 10])
    for now, passing in ((END, {OLD, NEW, OTHER}), (END + 10, {OLD}), (END + 19.9, {OLD}), (END + 20, set())):
        for index, secret in enumerate(secrets):
            verdict = verify(asked(secret), now)
            assert verdict == Verified(index) if secret in passing else isinstance(verdict, Refused)
    last = verify(asked(OLD), END + 20)
    assert isinstance(last, Refused)
    assert "ended at" in last.reason
    never = verify(asked(b"none of them"), END + 20)
    assert isinstance(never, Refused)
    assert "ended at" not in never.reason


@pytest.mark.parametrize("order", [(OLD, NEW), (NEW, OLD)])
def test_what_both_have_signed_passes_by_the_one_that_has_not_ended(order: Sequence[bytes]) -> None:
    """Senders that rotate sign with both for a while, and the old one may stand first."""
    scheme = Hmac(header="X-Sig-{n}")
    old, new = (hmac.digest(secret, b"{}", hashlib.sha256).hex().encode() for secret in (OLD, NEW))
    both = Incoming("POST", "/in/s", b"", {b"x-sig-1": old, b"x-sig-2": new}, b"{}")
    verify = with_ends(
        lambda secrets: scheme.compile(secrets, Site()), order, [END if secret == OLD else None for secret in order]
    )
    assert verify(both, END + 1) == Verified(order.index(NEW))


def test_other_verdicts_are_left_alone() -> None:
    wanted = with_ends(lambda secrets: lambda incoming, now: Wanted("https://certificates.example"), [OLD], [END])
    assert wanted(asked(OLD), END + 1) == Wanted("https://certificates.example")
    public = with_ends(lambda secrets: lambda incoming, now: Verified(NO_SECRET), [OLD], [END])
    assert public(asked(OLD), END + 1) == Verified(NO_SECRET)


def test_what_a_sender_may_send_only_once_survives() -> None:
    verify = with_ends(lambda secrets: lambda incoming, now: Verified(0, nonce=b"n"), [OLD, NEW], [END, None])
    assert verify(asked(OLD), END + 1) == Verified(1, nonce=b"n")


def test_without_ends_nothing_is_wrapped() -> None:
    inner = bearer([OLD])
    assert with_ends(lambda secrets: inner, [OLD], [None]) is inner
    assert with_ends(lambda secrets: inner, [], []) is inner
    with pytest.raises(ValueError, match="expected an end or None for each of 1 secrets, got 0"):
        with_ends(bearer, [OLD], [])
