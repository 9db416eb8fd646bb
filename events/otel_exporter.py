"""OTLP over HTTP, with one warning a minute in place of the SDK's line for every attempt.

It never raises. While the collector is away 2,048 spans wait (`OTEL_BSP_MAX_QUEUE_SIZE`); the SDK drops the
oldest beyond that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

WARN_EVERY = 60.0
"""Seconds between two warnings, at least."""

_log = structlog.get_logger(__name__)


class Exporter(SpanExporter):
    """Posts batches of spans to a collector.

    Args:
        endpoint: the whole URL.
    """

    def __init__(self, endpoint: str) -> None:
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self._to = urlsplit(endpoint).netloc.rpartition("@")[2]
        self._lost = 0
        self._warned_at = float("-inf")
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").addFilter(_WHY)
        # One line for every span that finds the queue full, formatted in the caller's thread.
        logging.getLogger("opentelemetry.sdk._shared_internal").disabled = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends one batch; called by the SDK, in its thread."""
        _WHY.pop()  # what an earlier batch, or another exporter of this process, met says nothing about this one
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            _WHY.note(type(error).__name__)
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            self._warn()
        return result

    def shutdown(self) -> None:
        """Ends a wait for the next attempt. A request that is under way goes on until its timeout."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK's

    def _warn(self) -> None:
        if time.monotonic() - self._warned_at >= WARN_EVERY:
            self._warned_at = time.monotonic()
            _log.warning("telemetry.not_exported", spans=self._lost, to=self._to, reason=_WHY.pop())
            self._lost = 0


class _Why(logging.Filter):
    """Keeps the first message since the last `pop`, which names the cause, and lets none through."""

    def __init__(self) -> None:
        super().__init__()
        self._text: str | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        self.note(record.getMessage())
        return False

    def note(self, text: str) -> None:
        self._text = self._text or text[:300]

    def pop(self) -> str:
        text, self._text = self._text, None
        return text or "unknown"


_WHY = _Why()  # one for all, as the SDK's logger is
