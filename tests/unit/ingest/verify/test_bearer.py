"""A shared token in a header passes only if it is the whole token."""

from __future__ import annotations

import pytest

from ingest.verify.schemes import Bearer, Refused, Verified
from tests.unit.ingest.requests import NOW, compile_scheme, request


@pytest.mark.parametrize("value", ["Bearer tökén", "bearer tökén", "BEARER tökén"])
def test_the_token_passes_in_any_case_of_the_word_bearer(value: str) -> None:
    verify = compile_scheme(Bearer(), [b"other", "tökén".encode()])
    assert verify(request(b"", ("Authorization", value)), NOW) == Verified(1)


@pytest.mark.parametrize(
    "value", ["", "token", "Bearer", "Bearer ", "Bearer toke", "Bearer token ", "Basic token", "é"]
)
def test_anything_else_is_refused(value: str) -> None:
    verdict = compile_scheme(Bearer(), [b"token"])(request(b"", ("Authorization", value)), NOW)
    assert isinstance(verdict, Refused)


def test_a_header_of_the_senders_own_needs_no_prefix() -> None:
    verify = compile_scheme(Bearer(header="X-Gitlab-Token", prefix=""), [b"token"])
    assert verify(request(b"", ("X-Gitlab-Token", "token")), NOW) == Verified(0)
    assert isinstance(verify(request(b"", ("X-Gitlab-Token", "toke")), NOW), Refused)
    assert isinstance(verify(request(b"", ("X-Gitlab-Token", "token"), ("X-Gitlab-Token", "token")), NOW), Refused)


def test_a_blank_token_matches_nothing() -> None:
    verify = compile_scheme(Bearer(), [b""])
    assert verify(request(b"", ("Authorization", "Bearer ")), NOW) == Refused("the source has no usable secret")
    with pytest.raises(ValueError, match="blank"):
        Bearer().check_secret(b" ")
