"""Spans at Headrace's own seams, through OpenTelemetry; nothing at all when no endpoint is configured.

Off is a constant: `span` returns one shared object whose methods do nothing, and the SDK is not even imported. A sender's
`traceparent` is carried on all the same, so that a trace that began outside reaches the last node's request.

Trace context travels as the W3C `traceparent` text: in a delivery's metadata, in `run.started`, in a doorbell's options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]


class Span(Protocol):
    """What the rest of Headrace may do with a span. It ends when its `with` block does."""

    traceparent: str | None
    """The context to hand on: this span's own, or the parent's when telemetry is off."""

    def set(self, name: str, value: str | int | float | bool) -> None:
        """Sets an attribute. Never a body, a header's value or a secret."""

    def fail(self, message: str) -> None:
        """Marks the span as failed."""

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
        """A span to be entered. `parent` None starts a trace of its own; it never looks for an ambient one."""


class _Off:
    """A span that carries its parent's context on."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def set(self, name: str, value: str | int | float | bool) -> None:
        pass

    def fail(self, message: str) -> None:
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
