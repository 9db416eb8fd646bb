"""Spans at Headrace's own seams, through OpenTelemetry; nothing at all when no endpoint is configured.

Off is a constant: `span` returns one shared object whose methods do nothing, and the SDK is not even
imported. A sender's `traceparent` is carried on all the same, so that a trace that began outside reaches the
last node's request. On is `events.otel`; all spans with their attributes are in docs/telemetry.md.

Trace context travels as the W3C `traceparent` text: in a delivery's metadata, in `run.started`, in a
doorbell's options. That text is handed on by hand. The current span is known beside it, for log records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal, Protocol

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
CURRENT: ContextVar[str | None] = ContextVar("headrace_traceparent", default=None)
"""The context of the span that this task or thread is in, where telemetry is on. Logs read it."""


class Span(Protocol):
    """What the rest of Headrace may do with a span. It ends when its `with` block does."""

    @property
    def traceparent(self) -> str | None:
        """The context to hand on: this span's own, or the parent's when telemetry is off."""

    def set(self, name: str, value: str | int | float | bool) -> None:
        """Sets an attribute. Never a body, a header's value or a secret."""

    def fail(self, kind: str) -> None:
        """Marks the span as failed: sets its status and `error.type`.

        Args:
            kind: one of few words (`timeout`, `http_5xx`, an exception's type). Never a message: it may quote
                a body.
        """

    def __enter__(self) -> Span: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Telemetry(Protocol):
    """Makes spans."""

    enabled: bool

    def span(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Mapping[str, Any] = {},
    ) -> Span:
        """A span that begins now and is to be entered. It never looks for an ambient parent and never raises.

        Args:
            name: one of few: it may hold a route or a workflow's name, never an id.
            parent: the `traceparent` of the span that this one is part of. None, or a text that is not one,
                starts a trace of its own.
            links: the `traceparent`s of spans that this one comes from without being part of them.
            attributes: as `Span.set` has them. A sampler sees these, and none that are set later.
        """

    def close(self) -> None:
        """Sends what is still waiting, for a few seconds at most. Spans that end later are lost."""


class _Off:
    """A span that carries its parent's context on."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def set(self, name: str, value: str | int | float | bool) -> None:
        pass

    def fail(self, kind: str) -> None:
        pass

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


_NOTHING = _Off(None)


class NoTelemetry:
    """Telemetry that is off."""

    enabled = False

    def span(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: str | None = None,
        links: Sequence[str] = (),
        attributes: Mapping[str, Any] = {},
    ) -> Span:
        return _NOTHING if parent is None else _Off(parent)

    def close(self) -> None:
        """Nothing waits."""
