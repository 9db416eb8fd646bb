"""Every line is one record in one form, and no secret is in any, wherever it was put."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.logs import ERRORS_ONLY, QUIET, configure_logging
from events.redaction import ITEMS_LIMIT, REDACTED, SIZE_LIMIT, TEXT_LIMIT, looks_secret, masked, redacted
from events.telemetry import CURRENT

SECRET = "hunter2hunter2"
KEYS = (
    *(
        "secret",
        "secret_key",
        "clientSecret",
        "password",
        "PGPASSWORD",
        "db-password",
        "passwd",
        "pwd",
        "token",
    ),
    *("access_token", "Authorization", "Proxy-Authorization", "api_key", "X-Api-Key", "apikey", "signature"),
    *("webhook-signature", "Cookie", "Set-Cookie", "body", "request_body", "private_key", "credentials"),
)


@contextmanager
def configured(format: str, level: str = "info") -> Iterator[None]:
    """Logging as in a process, until the end of the block."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in (*QUIET, *ERRORS_ONLY)}
    before = (root.handlers[:], root.level, levels)
    configure_logging(format, level)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        structlog.reset_defaults()
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        for name, number in before[2].items():
            logging.getLogger(name).setLevel(number)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged as JSON since the last call; every line is one record."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def chatter() -> None:
    structlog.get_logger("headrace").info("said")
    logging.getLogger("dramatiq.worker.ConsumerThread").info("chatter")
    logging.getLogger("uvicorn.access").info("chatter")


def test_a_record_has_time_level_event_logger_and_what_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("json"), structlog.contextvars.bound_contextvars(run_id="r1"):
        structlog.get_logger("headrace.x").bind(node="n").info("run.started", count=3, at=1.5, event_id=UUID(int=1))
    (line,) = lines(capsys)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line.pop("timestamp"))).total_seconds()) < 60
    assert line == {
        "level": "info",
        "event": "run.started",
        "logger": "headrace.x",
        "run_id": "r1",
        "node": "n",
        "count": 3,
        "at": 1.5,
        "event_id": str(UUID(int=1)),
    }


def test_libraries_go_the_same_way_and_say_no_more_than_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler())
    with configured("json"):
        chatter()
        logging.getLogger("uvicorn.error").warning("cannot bind %s", "redis://u:p@host/0")
        logging.getLogger("someone.else").info("said")
        logging.getLogger("asyncpg.pool").warning("a trace a second")
    first, second, third = lines(capsys)
    assert (first["event"], third["event"], third["logger"]) == ("said", "said", "someone.else")
    assert (second["event"], second["level"]) == (f"cannot bind redis://{REDACTED}@host/0", "warning")


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_the_operators(level: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    with configured("json", level):
        log = structlog.get_logger("headrace")
        for say in (log.debug, log.info, log.warning, log.error):
            say("said")
        logging.getLogger("dramatiq").warning("said")
    assert len(lines(capsys)) == count + (level != "error")


def test_the_current_spans_ids_are_in_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    before = CURRENT.set(f"00-{'a' * 32}-{'b' * 16}-01")
    with configured("json"):
        structlog.get_logger("headrace").info("ours")
        logging.getLogger("theirs").warning("theirs")
    CURRENT.reset(before)
    assert [(line["trace_id"], line["span_id"]) for line in lines(capsys)] == [("a" * 32, "b" * 16)] * 2


def fail() -> None:
    password = SECRET  # noqa: F841 - a local variable, which is nobody's business
    try:
        raise ConnectionError(f"postgresql://headrace:{SECRET}@db/headrace is away")
    except ConnectionError as error:
        error.add_note(f"tried with token={SECRET}")
        raise RuntimeError("not stored") from error


def test_an_exception_is_one_json_value_without_locals(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("json"):
        for log in (structlog.get_logger("headrace"), logging.getLogger("dramatiq.worker")):
            try:
                fail()
            except RuntimeError:
                log.critical("failed", exc_info=True)
    for line in lines(capsys):
        outer, inner = line["exception"]
        assert (outer["exc_type"], outer["exc_value"]) == ("RuntimeError", "not stored")
        assert outer["frames"][-1]["name"] == "fail"
        assert inner["exc_value"] == f"postgresql://{REDACTED}@db/headrace is away"
        assert not [frame for part in line["exception"] for frame in part["frames"] if "locals" in frame]
        assert SECRET not in str(line)


def test_the_console_shows_the_same_to_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("console"):
        try:
            fail()
        except RuntimeError:
            structlog.get_logger("headrace").exception("failed", run_id="r1", api_key=SECRET)
    shown = capsys.readouterr().err
    assert "run_id=r1" in shown
    assert 'raise RuntimeError("not stored")' in shown
    assert "\x1b" not in shown, "colours are for terminals"
    assert SECRET not in shown


@pytest.mark.parametrize("format", ["auto", "json"])
def test_lines_are_json_where_nobody_watches(format: str) -> None:
    """In a process of its own, where stderr is a pipe; a Python warning takes the same way."""
    code = (
        "from events.logs import configure_logging; import structlog, warnings\n"
        f"configure_logging({format!r}, 'info')\n"
        "structlog.get_logger('x').info('said', body=b'123', bad='\\ud800')\n"
        "warnings.warn('careful')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    said, warned = (json.loads(line) for line in done.stderr.splitlines())
    assert (said["event"], said["body"]) == ("said", REDACTED)
    assert (warned["logger"], warned["level"]) == ("py.warnings", "warning")


def test_what_looks_secret_and_what_does_not() -> None:
    assert [key for key in KEYS if not looks_secret(key)] == []
    for key in (
        "event",
        "error",
        "source",
        "run_id",
        "delivery_id",
        "attempt",
        "idempotency_key",
        "queue",
        "url",
    ):
        assert not looks_secret(key)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.text(max_size=5)
    return st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(names | st.integers() | st.binary(max_size=3), inner, max_size=3),
    )


USERINFO = st.text("abcXYZ019-._~%:!$&()*+,;=/@", max_size=10)
TOLD = st.one_of(
    st.sampled_from(KEYS).map(lambda key: {key: SECRET}),
    st.sampled_from(KEYS).map(lambda key: {key: {"deeper": [SECRET, 1]}}),
    st.sampled_from(KEYS).map(lambda key: [(key, SECRET)]),
    st.sampled_from(KEYS).map(lambda key: {key.encode(): SECRET}),
    st.sampled_from(KEYS).map(lambda key: f"Settings(a=1, {key}='{SECRET}', b=2)"),
    st.sampled_from(KEYS).map(lambda key: json.dumps({"a": 1, key: SECRET})),
    st.sampled_from(KEYS).map(lambda key: json.dumps({"b": json.dumps({"a": 1, key: "x" + SECRET})})),
    st.sampled_from(KEYS).map(lambda key: str({key: f'it\'s "quoted" {SECRET}'})),
    st.sampled_from(KEYS).map(lambda key: f"GET /path?{key}={SECRET}&x=1"),
    st.builds(
        lambda user, more: f"postgresql://{user}:{SECRET}{more}@host:5432/db",
        st.text("abc", max_size=3),
        USERINFO,
    ),
    st.builds(lambda more: f"expected a URL, got redis://:{more}{SECRET}@host/0 in it", USERINFO),
    st.just(f"Authorization: Digest {SECRET}"),
    st.just(f"Bearer {SECRET}"),
    st.just(f"whsec_{SECRET}"),
)
"""What can be told to be a secret in any text, too, an exception's for instance."""
HIDDEN = st.one_of(
    TOLD,
    st.recursive(TOLD, nested, max_leaves=4).map(lambda value: ValueError("got", value)),
    st.just(SECRET.encode()),
    st.just(type("Opaque", (), {"__repr__": lambda self: SECRET})()),
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.binary(max_size=5)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(value=st.recursive(HIDDEN | PLAIN, nested, max_leaves=12))
def test_no_secret_ever_appears(value: Any) -> None:
    shown = json.dumps(redacted({"event": "said", "value": value}), allow_nan=False)
    assert SECRET not in shown


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert masked(f"run {text.replace(':', ' ').replace('=', ' ')}")[:4] == "run "
    assert (
        masked("delivery 3 of source shop: no source has this name")
        == "delivery 3 of source shop: no source has this name"
    )


def test_urls_keep_what_is_no_secret() -> None:
    for url in (
        "https://hooks.example/a@b",
        "redis://127.0.0.1:6379/0",
        "postgresql://db/headrace?sslmode=require",
    ):
        assert masked(url) == url
    assert masked("postgresql://u:p@db:5432/x") == f"postgresql://{REDACTED}@db:5432/x"


def test_records_are_bounded_whatever_is_given() -> None:
    endless: dict[str, Any] = {"list": []}
    endless["list"] += [endless] * 10
    wide = {
        "numbers": list(range(100_000)),
        "text": "x" * 10 * TEXT_LIMIT,
        "cut": "y" * (TEXT_LIMIT - 20) + f" a://u:{SECRET}@h",
    }
    assert len(str(redacted(endless))) < 100 * SIZE_LIMIT
    shown = redacted(wide)
    assert len(shown["numbers"]) == ITEMS_LIMIT + 1
    assert len(shown["text"]) == TEXT_LIMIT + 1
    assert SECRET[:5] not in str(redacted({"cut": wide["cut"]}))


@pytest.mark.parametrize("hostile", ["://x:", "token", "token=", "secret-", "bearer ", "cookie ", "'", "@", "basic"])
def test_a_hostile_text_costs_little(hostile: str) -> None:
    """Quadratic would be seconds."""
    import time  # noqa: PLC0415

    began = time.perf_counter()
    for text in (hostile * 20_000, "@" + hostile * 20_000, hostile * 1_000 + "://a:" + "b" * 5_000):
        masked(text)
    assert time.perf_counter() - began < 2
