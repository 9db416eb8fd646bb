"""A load generator for machines without wrk: one asyncio protocol per connection, requests prepared as bytes."""

from __future__ import annotations

import asyncio
import itertools
import time

from tests.bench.stand import percentile


class _Poster(asyncio.Protocol):
    """Posts, waits for the answer, posts again."""

    def __init__(
        self, head: bytes, tail: bytes, numbers: itertools.count[int], until: float, latencies: list[float]
    ) -> None:
        self._head, self._tail, self._numbers, self._until, self._latencies = (
            head,
            tail,
            numbers,
            until,
            latencies,
        )
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began = 0.0
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._post()

    def _post(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(b"%bx-github-delivery: %d\r\n%b" % (self._head, next(self._numbers), self._tail))

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(b"}"):  # head and body may come apart
            return
        answer, self._answer = self._answer, b""
        if not answer.startswith(b"HTTP/1.1 202"):
            self._fail(RuntimeError(f"expected 202, got {answer[:60]!r}"))
            return
        now = time.perf_counter()
        self._latencies.append(now - self._began)
        if now < self._until:
            self._post()
        elif not self.done.done():
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or RuntimeError("expected an answer, got the end of the connection"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
        self._transport.close()


async def generate(
    port: int, path: str, body: bytes, signature: str, connections: int, seconds: float
) -> dict[str, float]:
    """Requests/s and latencies (seconds) of `connections` posters over `seconds`."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nx-github-event: push\r\n"
        f"x-hub-signature-256: {signature}\r\ncontent-length: {len(body)}\r\n"
    ).encode()
    latencies: list[float] = []
    numbers = itertools.count(time.time_ns())
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda: _Poster(head, b"\r\n" + body, numbers, began + seconds, latencies), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*[protocol.done for _, protocol in made])
    elapsed = time.perf_counter() - began
    return {
        "rps": len(latencies) / elapsed,
        "p50_s": percentile(latencies, 0.5),
        "p99_s": percentile(latencies, 0.99),
    }
