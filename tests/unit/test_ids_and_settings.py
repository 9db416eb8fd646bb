"""Ids carry the time they are told; settings are validated at once."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.codec import pack, unpack
from events.errors import ConfigError
from events.headers import decode_headers, encode_headers
from events.ids import dedup_key, derived_id, uuid7, uuid7_floor, uuid7_time
from events.settings import load_settings, parse_duration, parse_size

TIMES = st.floats(0, 2**37)


@given(TIMES)
def test_a_uuid7_carries_its_time_and_lies_above_its_floor(at: float) -> None:
    id = uuid7(at)
    assert (id.version, id.variant) == (7, "specified in RFC 4122")
    assert uuid7_time(id) == int(at * 1000) / 1000
    assert uuid7_floor(at) <= id


def test_ids_of_later_times_are_later() -> None:
    now = time.time()
    assert uuid7(now) < uuid7(now + 0.001) < uuid7(now + 1)
    assert len({uuid7(now) for _ in range(10_000)}) == 10_000


@given(TIMES, st.text(max_size=9), st.text(max_size=9))
def test_a_derived_id_is_repeatable_and_of_its_parents_time(at: float, one: str, two: str) -> None:
    parent = uuid7(at)
    assert derived_id(parent, one) == derived_id(parent, one)
    assert (derived_id(parent, one) == derived_id(parent, two)) is (one == two)
    assert uuid7_time(derived_id(parent, one)) == uuid7_time(parent)
    assert derived_id(parent, one).version == 7


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_dedup_keys_differ_where_their_parts_do(one: list[bytes], two: list[bytes]) -> None:
    assert (dedup_key(*one) == dedup_key(*two)) is (one == two)
    assert len(dedup_key(*one)) == 16


@given(st.binary(max_size=3000) | st.binary(max_size=20).map(lambda part: part * 200))
def test_bodies_come_back_as_they_were(body: bytes) -> None:
    codec, kept = pack(body)
    assert unpack(codec, kept) == body
    assert len(kept) <= len(body)


def test_a_codec_of_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match="codec 0 or 1, got 9"):
        unpack(9, b"")


def test_headers_keep_order_and_repeats() -> None:
    pairs = [(b"b", b"1"), (b"a", b"x: y"), (b"b", "é".encode())]
    assert decode_headers(encode_headers(pairs)) == [("b", "1"), ("a", "x: y"), ("b", "Ã©")]
    assert decode_headers(None) == decode_headers(b"") == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("1h30m", 5400), ("250ms", 0.25), (7, 7), ("1.5", 1.5), ("2d", 172800)]
)
def test_durations(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["soon", "5 parsecs", "s", "1h and a bit"])
def test_what_is_no_duration_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


def test_sizes() -> None:
    assert [parse_size("25MB"), parse_size("1 kb"), parse_size(9)] == [25 << 20, 1024, 9]


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    environ = {
        "HEADRACE_LEAZE": "3",
        "HEADRACE_LEASE": "soon",
        "HEADRACE_CONCURRENCY": "0",
        "HEADRACE_LOG_LEVEL": "loud",
        "HEADRACE_TRUSTED_PROXIES": "10.0.0.7/8, proxy",
        "HEADRACE_EGRESS_ALLOW": "10.1.0.1/16",
        "HEADRACE_BODY_MEMORY": "49MB",
        "HEADRACE_SECRET_KEY_FILE": str(tmp_path / "absent"),
    }
    with pytest.raises(ConfigError) as caught:
        load_settings(environ, tmp_path)
    text = str(caught.value)
    for part in (
        "leaze: no such setting; did you mean lease?",
        "lease: expected a duration",
        "concurrency: expected more than 0",
        "log_level: expected one of",
        "trusted_proxies: expected a network such as 10.0.0.0/8, got 'proxy'",
        "egress_allow: expected a network such as 10.1.0.0/16, got '10.1.0.1/16'",
        "body_memory: expected at least twice body_limit (52428800 bytes), got 51380224",
        "SECRET_KEY_FILE: expected a readable file",
    ):
        assert part in text
    assert len(caught.value.faults) == 8


def test_later_sources_win_and_files_hold_secrets(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('lease = "10s"\nconcurrency = 7\nnode_modules = ["a", "b"]\n')
    (tmp_path / "key").write_text("k\n")
    environ = {
        "HEADRACE_LEASE": "20s",
        "HEADRACE_SECRET_KEY_FILE": str(tmp_path / "key"),
        "HEADRACE_EGRESS_ALLOW": "10.0.0.0/8, ::1/128",
    }
    settings = load_settings(environ, tmp_path, concurrency=9, ingest_port=None)
    assert (settings.lease, settings.concurrency, settings.secret_key) == (20.0, 9, "k")
    assert (settings.node_modules, settings.egress_allow) == (["a", "b"], ["10.0.0.0/8", "::1/128"])
    assert isinstance(uuid7(1.0), UUID)


@pytest.mark.parametrize("url", ["", "https://hooks.example.com", "http://127.0.0.1:8080/", "https://a.example/hooks"])
def test_a_public_url_is_where_senders_reach_ingest(url: str, tmp_path: Path) -> None:
    assert load_settings({"HEADRACE_PUBLIC_URL": url}, tmp_path).public_url == url


@pytest.mark.parametrize("url", ["hooks.example.com", "ftp://a.example", "https://", "https://a.example/?x=1", "x y"])
def test_what_is_no_public_url_says_what_was_expected(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"public_url: expected https://hooks\.example\.com or the like, got"):
        load_settings({"HEADRACE_PUBLIC_URL": url}, tmp_path)


def test_a_public_url_with_a_password_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="public_url") as refused:
        load_settings({"HEADRACE_PUBLIC_URL": "https://ann:hunter2@a.example"}, tmp_path)
    assert "hunter2" not in str(refused.value)
