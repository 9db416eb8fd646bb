"""Telemetry is off unless an endpoint is named, costs nothing then, and hands contexts on either way."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from events import otel_exporter
from events.errors import ConfigError
from events.otel import endpoint_of, make_telemetry
from events.otel_exporter import Exporter
from events.telemetry import CURRENT, NoTelemetry, Telemetry

NOBODY = "http://127.0.0.1:9"
SENDER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = SENDER[:-1] + "0"
WELL_FORMED = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@pytest.fixture
def unsampled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    """Telemetry that is on and records nothing, so that nothing is to be sent."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    telemetry = make_telemetry("headrace-test", {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY})
    yield telemetry
    telemetry.close()


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/otlp/"}, "http://c:4318/otlp/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/spans"}, "http://c/spans"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://d"},
            "http://d",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "TRUE"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "false"}, "http://c/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, None),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "console, otlp"},
            "http://c/v1/traces",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
    ],
)
def test_the_standard_variables_say_whether_and_where(environ: dict[str, str], endpoint: str | None) -> None:
    assert endpoint_of(environ) == endpoint


def test_off_does_not_import_the_sdk() -> None:
    """In a process of its own: here the tests have imported it. (redis-py imports the part for metrics.)"""
    code = (
        "import sys; from events.otel import make_telemetry\n"
        "assert not make_telemetry('x', {}).enabled\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "import ingest.app, executor.worker.app\n"
        "assert not {'opentelemetry.sdk.trace', 'opentelemetry.exporter'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_off_hands_the_parent_on_and_is_one_object() -> None:
    off = NoTelemetry()
    with off.span("a", parent=SENDER) as span:
        span.set("key", 1)
        span.fail("timeout")
        assert span.traceparent == SENDER
        assert CURRENT.get() is None
    assert off.span("a") is off.span("b", links=[SENDER], attributes={"key": 1})
    assert off.span("a").traceparent is None
    off.close()


def test_a_span_continues_its_parents_trace_with_an_id_of_its_own(unsampled: Telemetry) -> None:
    own = unsampled.span("a", parent=UNSAMPLED).traceparent
    assert own is not None
    assert WELL_FORMED.fullmatch(own)
    assert own[:36] == UNSAMPLED[:36]
    assert own[36:52] != UNSAMPLED[36:52]


@pytest.mark.parametrize(
    "parent",
    [None, "", "nonsense", "ff" + SENDER[2:], SENDER.replace("00f067aa0ba902b7", "0" * 16), SENDER + "-00"],
)
def test_without_a_valid_parent_a_span_is_a_root_whatever_is_ambient(unsampled: Telemetry, parent: str | None) -> None:
    ambient = TracerProvider(shutdown_on_exit=False).get_tracer("someone else's")
    with ambient.start_as_current_span("ambient") as outer, unsampled.span("ours") as before:
        own = unsampled.span("a", parent=parent).traceparent
        assert own is not None
        assert WELL_FORMED.fullmatch(own)
        assert f"{outer.get_span_context().trace_id:032x}" not in own
        assert before.traceparent is not None
        assert before.traceparent[3:35] not in own
        assert trace.get_current_span() is outer, "nothing global is touched"


def test_the_sampler_is_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    for sampler, parent, sampled in [
        ("", None, True),
        ("", UNSAMPLED, False),
        ("always_on", UNSAMPLED, True),
        ("parentbased_always_off", None, False),
        ("parentbased_always_off", SENDER, True),
    ]:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
        telemetry = make_telemetry("headrace-test", {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY})
        own = telemetry.span("never ended, so never sent", parent=parent).traceparent
        assert own is not None
        assert bool(int(own[-2:], 16) & 1) is sampled, (sampler, parent)
        telemetry.close()


def test_the_current_span_is_known_while_it_is_entered(unsampled: Telemetry) -> None:
    outer, inner = unsampled.span("outer"), unsampled.span("inner")
    assert CURRENT.get() is None
    with outer:
        with inner:
            assert CURRENT.get() == inner.traceparent
        assert CURRENT.get() == outer.traceparent
        seen: list[str | None] = []
        other = threading.Thread(target=lambda: seen.append(CURRENT.get()))
        other.start()
        other.join()
        assert seen == [None]
    assert CURRENT.get() is None


def test_values_that_the_sdk_refuses_are_config_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(ConfigError, match=r"OTEL_"):
        make_telemetry("headrace-test", {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY})


def test_another_protocol_is_said_to_be_ignored() -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with structlog.testing.capture_logs() as logs:
        make_telemetry("headrace-test", environ).close()
    assert [(line["event"], line["got"]) for line in logs] == [("telemetry.protocol", "grpc")]


def test_one_warning_a_minute_says_that_the_collector_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    exporter = Exporter(f"{NOBODY.replace('://', '://user:hunter2@')}/v1/traces")
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            exporter.export([])
        now += otel_exporter.WARN_EVERY
        exporter.export([])
    assert [line["event"] for line in logs] == ["telemetry.not_exported"] * 2
    assert logs[0]["to"] == "127.0.0.1:9"
    assert "Failed to export" in logs[0]["reason"]
    assert "hunter2" not in str(logs)
    assert not caplog.records, "the SDK's own lines are not heard"
    exporter.shutdown()
