"""The other side of the demo: a small HTTP server that knows customers and takes webhooks, and keeps count.

It is slow, as others are (`SLOWNESS`), and refuses every tenth webhook once with a 503, so that the sender's
retries are seen at work. It listens on loopback, on a port that the system picks, in a thread for each
connection.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOWNESS = 0.1
"""Seconds for each answer."""
REFUSED = 10
"""One webhook in so many is refused, the first time."""


class Sink:
    """The server. Use it as a context manager; `calls` has how often each webhook id came and was taken."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.refused: set[str] = set()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="sink", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, webhook_id: str) -> int:
        """Notes a webhook; answers the status to send."""
        with self._lock:
            new = webhook_id not in self.calls and webhook_id not in self.refused
            if new and (len(self.calls) + len(self.refused)) % REFUSED == REFUSED - 1:
                self.refused.add(webhook_id)
                return 503
            self.calls[webhook_id] = self.calls.get(webhook_id, 0) + 1
            return 202


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A worker that was killed hangs up: that is what the demo is about, and no error."""


def _handler(sink: Sink) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            customer = self.path.rpartition("/")[2]
            self._answer(200, {"id": customer, "name": f"Customer {customer}"})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self._answer(sink.take(self.headers.get("webhook-id", "")), {})

        def _answer(self, status: int, value: object) -> None:
            time.sleep(SLOWNESS)
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
