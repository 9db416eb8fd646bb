"""Whether a worker could take work now: for beats in Redis, and for the probe that a container asks.

    GET /health/ready   200, or 503 with the reason: the loop is blocked, PostgreSQL is away, no consumer, draining
    GET /health/live    200, or 503: the loop has been silent for so long that the process should be replaced

All of it is in threads of its own, so that a loop that is blocked is told of and not waited for. Redis being away is no
reason: a worker looks for work without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from importlib.metadata import version
from typing import Any

import msgspec
import structlog

from events.beats import EVERY, Beats, WorkerBeat
from events.database import Database
from events.errors import HeadraceError, Unavailable
from executor.engine.tally import Tally

LOOK = 1.0
"""Seconds between two looks."""
LAG = 5.0
"""Seconds of the loop's silence after which it is not ready."""
DEAD = 60.0
"""Seconds of the loop's silence after which it is not alive."""
AWAY = 10.0
"""Seconds without an answer of PostgreSQL after which it is away."""

_log = structlog.get_logger(__name__)


class Facts(msgspec.Struct, frozen=True):
    """What is known at one moment; times are monotonic seconds.

    Args:
        asked, answered: when the loop was last asked, and last answered.
        database: when PostgreSQL last answered.
        consuming: whether the threads that wait for doorbells live.
    """

    now: float
    asked: float
    answered: float
    database: float
    consuming: bool
    draining: bool

    @property
    def lag(self) -> float:
        """Seconds that the loop has not answered for; 0: it answered what it was asked last."""
        return 0.0 if self.answered >= self.asked else self.now - self.asked

    @property
    def reason(self) -> str | None:
        """Why no work can be taken; None: it can."""
        if self.draining:
            return "draining"
        if self.lag > LAG:
            return f"the event loop has been blocked for {self.lag:.0f} s"
        if self.now - self.database > AWAY:
            return f"PostgreSQL has not answered for {self.now - self.database:.0f} s"
        return None if self.consuming else "no thread waits for doorbells"

    @property
    def alive(self) -> bool:
        """Whether the process is worth keeping."""
        return self.lag <= DEAD


class Health:
    """Looks once a second, beats every few.

    Args:
        consuming: whether the consumers live.
        in_flight: how much is held.
        port: of the probe, on `host`; None: no probe. 0: the system picks.
    """

    def __init__(
        self,
        *,
        owner: str,
        queues: tuple[str, ...],
        capacity: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        database: Database,
        tally: Tally,
        beats: Beats,
        consuming: Callable[[], bool],
        in_flight: Callable[[], int],
        host: str = "127.0.0.1",
        port: int | None = None,
    ) -> None:
        self._owner, self._queues, self._capacity = owner, queues, capacity
        self._loop, self._database, self._tally, self._beats = loop, database, tally, beats
        self._consuming, self._in_flight = consuming, in_flight
        self._asked = self._answered = self._seen = time.monotonic()
        self._started = time.time()
        self._asking: Future[None] | None = None
        self._draining = False
        self._stop = threading.Event()
        self._server = None if port is None else _bind(host, port, self)
        self._threads = [threading.Thread(target=self._keep, name="health", daemon=True)]
        if self._server is not None:
            self._threads.append(threading.Thread(target=self._server.serve_forever, name="probe", daemon=True))

    def start(self) -> None:
        """Looks and answers from now on."""
        for thread in self._threads:
            thread.start()
        if self._server is not None:
            host, port = self._server.server_address[:2]
            _log.info("worker.probe", url=f"http://{host!s}:{port}/health/ready")

    def drain(self) -> None:
        """Not ready from now on."""
        self._draining = True
        self._beats.beat(self.beat())

    def stop(self) -> None:
        """Ends; the process is not listed any more."""
        self._stop.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._threads[0].join(timeout=5)
        self._beats.close(self._owner)

    @property
    def facts(self) -> Facts:
        """As things stand."""
        return Facts(time.monotonic(), self._asked, self._answered, self._seen, self._consuming(), self._draining)

    def beat(self) -> WorkerBeat:
        """The same for whoever looks from outside."""
        facts = self.facts
        return WorkerBeat(
            owner=self._owner,
            queues=self._queues,
            version=version("headrace"),
            started_at=self._started,
            at=time.time(),
            capacity=self._capacity(),
            in_flight=self._in_flight(),
            finished=self._tally.finished,
            last_claim=self._tally.last_claim,
            last_finish=self._tally.last_finish,
            loop_lag=round(facts.lag or max(0.0, self._answered - self._asked), 4),
            memory=resident(),
            draining=self._draining,
            ready=facts.reason is None,
            reason=facts.reason,
        )

    def _keep(self) -> None:
        beat_at = 0.0
        while not self._stop.wait(LOOK if beat_at else 0.0):
            self._ask()
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + EVERY
                self._beats.beat(self.beat())

    def _ask(self) -> None:
        """Asks the loop, and PostgreSQL through it; what was asked before and is not answered yet is waited for."""
        if self._answered < self._asked:
            return
        self._asked = time.monotonic()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._turned)

    def _turned(self) -> None:
        self._answered = time.monotonic()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.run_coroutine_threadsafe(self._see(), self._loop)

    async def _see(self) -> None:
        with contextlib.suppress(HeadraceError, TimeoutError, OSError):
            async with asyncio.timeout(AWAY):
                await self._database.fetchval("SELECT 1")
            self._seen = time.monotonic()


def resident() -> int:
    """Bytes that this process has in memory; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _bind(host: str, port: int, health: Health) -> http.server.HTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 2.0

        def do_GET(self) -> None:
            facts = health.facts
            match self.path:
                case "/health/ready":
                    good, said = facts.reason is None, facts.reason or "ready"
                case "/health/live":
                    good, said = facts.alive, "alive" if facts.alive else facts.reason or "not alive"
                case _:
                    self.send_error(404)
                    return
            body = f"{said}\n".encode()
            self.send_response(200 if good else 503)
            self.send_header("content-type", "text/plain; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes come every few seconds: nobody wants to read of each."""

    try:
        return http.server.HTTPServer((host, port), Handler)
    except OSError as error:
        raise Unavailable(
            f"worker: expected to answer probes on {host}:{port}, got: {error.strerror}; "
            "see HEADRACE_WORKER_HEALTH_PORT"
        ) from None
