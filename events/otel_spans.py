"""Spans through the OpenTelemetry SDK, sent in batches from a thread of its own.

What it promises:

- Nothing global is set: the provider is this object's own, and no ambient context is looked at.
- A collector that is away costs no caller anything (`events.otel_exporter`), and `close` ends in time.
- An exception that leaves a span is recorded by its type. Its message, which may hold anything, is not.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from events.otel_exporter import Exporter
from events.telemetry import CURRENT, Span, SpanKind

CLOSE_WITHIN = 3.0
"""Seconds that `close` may take, whatever the collector does."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_KINDS = {kind.name.lower(): kind for kind in trace.SpanKind}
_ROOT = Context()


class OtelTelemetry:
    """Telemetry that is on.

    Args:
        service: the resource's `service.name`.
        endpoint: the URL that batches are posted to.

    Raises:
        ValueError: one of the SDK's variables has a value that it refuses.
    """

    enabled = True

    def __init__(self, service: str, endpoint: str) -> None:
        ours = {"service.name": service, "service.version": _version()}
        self._exporter = Exporter(endpoint)
        self._provider = TracerProvider(
            resource=Resource.create(ours).merge(OTELResourceDetector().detect()),  # the operator's word is last
            shutdown_on_exit=False,  # it would wait half a minute for a collector that is away
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("headrace", ours["service.version"])

    def span(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Mapping[str, Any] = {},
    ) -> Span:
        context = _ROOT  # never None, which would mean the ambient one
        if parent is not None and (above := _context_of(parent)) is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(above), context)
        linked = [trace.Link(other) for link in links if (other := _context_of(link)) is not None]
        return _Live(self._tracer.start_span(name, context, _KINDS[kind], attributes or None, linked))

    def close(self) -> None:
        # The SDK's own bounds are ten seconds for each batch and half a minute for all: it is given up from
        # outside, and the exporter's next wait ends. What hangs then is a daemon thread.
        closing = threading.Thread(target=self._provider.shutdown, name="telemetry-close", daemon=True)
        closing.start()
        closing.join(CLOSE_WITHIN)
        if closing.is_alive():
            self._exporter.shutdown()


class _Live:
    """A span that is recorded, or that the sampler left out. Current for log records while entered."""

    __slots__ = ("_before", "_failed", "_span", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        own = span.get_span_context()
        self.traceparent: str | None = f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
        self._span = span
        self._failed = False
        self._before: str | None = None

    def set(self, name: str, value: str | int | float | bool) -> None:
        self._span.set_attribute(name, value)

    def fail(self, kind: str) -> None:
        self._failed = True
        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.StatusCode.ERROR, kind)

    def __enter__(self) -> Span:
        self._before = CURRENT.get()
        CURRENT.set(self.traceparent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        CURRENT.set(self._before)  # not by a token: whoever leaves elsewhere than it entered is not punished
        if kind is not None and not self._failed:
            self.fail(kind.__name__)
        self._span.end()


def _context_of(traceparent: str) -> trace.SpanContext | None:
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    remote = traceparent != CURRENT.get()  # all that can be told from a text
    return trace.SpanContext(trace_id, span_id, remote, trace.TraceFlags(flags))


def _version() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "unknown"
