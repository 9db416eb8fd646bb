"""How long another service asks us to wait, and what its status means."""

from __future__ import annotations

import pytest

from executor.engine.answers import refusal, retry_after
from executor.engine.outbound import Response, shown

NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Wed, 21 Oct 2015 07:29:30 GMT", 90.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("Wed, 21 Oct 2065 07:00:00 GMT", 86_400.0),
        ("999999999999999999999999", 86_400.0),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_in_both_forms(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, NOW) == seconds


def test_no_header_asks_for_nothing() -> None:
    assert retry_after({}, NOW) is None


@pytest.mark.parametrize(
    ("status", "kind"), [(429, "http_429"), (404, "http_4xx"), (503, "http_5xx"), (302, "http_3xx")]
)
def test_a_status_has_a_kind(status: int, kind: str) -> None:
    error = refusal("GET x", Response(status, {"retry-after": "7"}, b"no \xff" + b"x" * 9_000))
    assert (error.kind, error.retry_after) == (kind, 7.0)
    assert len(str(error)) < 600


@pytest.mark.parametrize("url", ["https://a:b@x.example/p?token=s", "https://x.example/p#s", "https://x.example/p?@s"])
def test_a_shown_url_has_no_secrets(url: str) -> None:
    assert shown(url) == "https://x.example/p"
