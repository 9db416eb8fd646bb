"""A real OTLP collector for tests: `rotel` receives on a free port and forwards to a server here.

So what the tests see has passed a foreign receiver: it was well-formed OTLP over HTTP.

    with Collector() as collector:
        telemetry = make_telemetry("headrace-test", collector.environ)
        ...
        spans = collector.spans(lambda seen: {"run", "node"} <= {span.name for span in seen})
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

TRIES = 5
"""How often a port may turn out to be somebody else's after all."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One span as the collector passed it on. Ids in hex, times in Unix seconds, "" the parent of a root."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    """`traceparent`-like: `<trace id>-<span id>`."""
    error: str | None
    """The status's description, if the span failed."""
    events: tuple[str, ...]
    resource: dict[str, Any]
    start: float
    end: float

    @property
    def context(self) -> str:
        """As a link to it has it."""
        return f"{self.trace_id}-{self.span_id}"


class Collector:
    """Starts at once; `stop` it, or use it in a `with` block."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._spans: list[Seen] = []
        self._sink = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._sink.serve_forever, name="otlp-sink", daemon=True).start()
        self._process, port = self._start_rotel()
        self.endpoint = f"http://127.0.0.1:{port}"

    @property
    def environ(self) -> dict[str, str]:
        """The variables that make a process send its spans here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def spans(self, until: Callable[[list[Seen]], bool], timeout: float = 60.0) -> list[Seen]:
        """All spans so far, as soon as `until` says that they are all.

        Raises:
            AssertionError: it did not within `timeout` seconds; the message names what there is.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: until(self._spans), timeout):
                names = sorted(span.name for span in self._spans)
                raise AssertionError(f"expected other spans within {timeout:g} s, got {len(names)}: {names}")
            return list(self._spans)

    def stop(self) -> None:
        """Stops the collector. What it has passed on can still be read."""
        self._process.terminate()
        self._process.wait(timeout=10)
        self._sink.shutdown()
        self._sink.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_rotel(self) -> tuple[subprocess.Popen[bytes], int]:
        for _ in range(TRIES):
            port = free_port()
            process = subprocess.Popen(
                [
                    *(_rotel(), "start", "--batch-timeout", "10ms", "--exporter", "otlp"),
                    *("--otlp-http-endpoint", f"127.0.0.1:{port}"),
                    *("--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}"),
                    *("--otlp-exporter-endpoint", f"http://127.0.0.1:{self._sink.server_port}"),
                    *("--otlp-exporter-protocol", "http"),
                ],
                env={},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if _listens(process, port):
                return process, port
        raise RuntimeError(f"rotel: expected it to listen, got an exit, {TRIES} times")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        arrived, spans = self._arrived, self._spans

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                with arrived:
                    spans.extend(decode(body))
                    arrived.notify_all()
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def decode(body: bytes) -> list[Seen]:
    """The spans of one OTLP request in protobuf."""
    return [
        _seen(span, _values(group.resource.attributes))
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def free_port() -> int:
    """A port of the loopback that nobody had a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _seen(span: Span, resource: dict[str, Any]) -> Seen:
    return Seen(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        attributes=_values(span.attributes),
        links=tuple(f"{link.trace_id.hex()}-{link.span_id.hex()}" for link in span.links),
        error=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else None,
        events=tuple(event.name for event in span.events),
        resource=resource,
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
    )


def _values(pairs: Any) -> dict[str, Any]:
    def plain(value: AnyValue) -> Any:
        return getattr(value, value.WhichOneof("value") or "string_value")

    return {pair.key: plain(pair.value) for pair in pairs}


def _rotel() -> Path:
    found = importlib.util.find_spec("rotel")
    if found is None or found.origin is None:
        raise RuntimeError("expected the package rotel (a dev dependency), got none; `make install`")
    return Path(found.origin).parent / "rotel-agent"


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it does, within 10 s; False as soon as it has ended."""
    ends_at = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < ends_at:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.005)
    process.kill()
    process.wait()
    return False
