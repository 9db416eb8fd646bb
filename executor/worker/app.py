"""The composition root of a worker process: settings in, a running worker out.

Two kinds of threads: Dramatiq's, which wait for doorbells, and one that runs the engine's event loop, where everything
else happens. The worker is Dramatiq's `Worker` in this very process and not its command line, which forks a master and
children of its own: whoever kills this process has killed all of it, and one worker's death stops no other.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import structlog
import uvloop
from dramatiq.worker import Worker

from events.beats import Beats
from events.collector import settle
from events.database import Database
from events.doorbell import Doorbell, broker_for
from events.runs import RunWriter
from events.settings import Settings
from events.telemetry import Telemetry
from events.work import WorkList
from executor.engine.attempts import Attempts
from executor.engine.cache import NodeCache
from executor.engine.cache_store import CacheStore
from executor.engine.duties import Duties
from executor.engine.engine import Engine
from executor.engine.limits import Limits
from executor.engine.listening import Listening
from executor.engine.live import Announcer
from executor.engine.pace import Pace
from executor.engine.processes import KillablePool
from executor.engine.registry import Registry
from executor.engine.run import Services
from executor.engine.snapshots import Snapshots
from executor.engine.store import LogStore
from executor.engine.traced import outbound_client
from executor.engine.workflows import Workflows
from executor.worker.actors import declare
from executor.worker.endpoints import endpoint_resolver
from executor.worker.handover import HandOver
from executor.worker.health import Health
from executor.worker.middleware import DoorbellBackoff
from executor.worker.tracing import Tracing
from executor.worker.waiting import BLOCK, Lookout, WaitingBroker
from executor.worker.watchdog import STALLED, Watchdog

THREADS = 4
"""Dramatiq threads: each can hold one doorbell. They do nothing but wait for the engine."""

T = TypeVar("T")
_log = structlog.get_logger(__name__)


class WorkerProcess:
    """One worker process.

    Args:
        queues: the queues that it serves.
        on_stuck: called in another thread when a node has stopped the event loop for good and the work was given back:
            the process is to be replaced within seconds, or it ends by itself. None: the loop is never given up.
    """

    def __init__(
        self,
        settings: Settings,
        queues: Sequence[str],
        telemetry: Telemetry,
        *,
        on_stuck: Callable[[], None] | None = None,
    ) -> None:
        self.stuck = False
        """Whether the event loop was given up. `stop` would wait for it for ever then."""
        self._ending = False
        self._on_stuck = on_stuck
        self._settings = settings
        self._pace = Pace(settings.concurrency, settings.concurrency_min)
        self._queues = list(queues)
        self._telemetry = telemetry
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._broker = broker_for(settings.redis_url, [Tracing(), DoorbellBackoff()], WaitingBroker)
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._doorbell = Doorbell(broker_for(settings.redis_url, []))
        self._database = Database(settings.database_url, "worker", size=8)
        self._renewals = Database(settings.database_url, "worker", size=1)
        self._closing: list[Callable[[], Awaitable[Any]]] = [self._database.close, self._renewals.close]

    def start(self) -> None:
        """Starts everything; returns when the worker takes work.

        Raises:
            ConfigError: the settings or the node modules cannot work.
            HeadraceError: the database is not what it should be.

        PostgreSQL and Redis may be away: it waits for the one, and looks for work without the other.
        """
        self._thread.start()
        self._engine = self._in_loop(self._compose())
        lookout = Lookout(self._engine)
        self._keepers = [
            asyncio.run_coroutine_threadsafe(keep, self._loop)
            for keep in (
                self._engine.leases.keep(),
                self._listening.keep(),
                self._announcer.keep(),
                self._database.keep_clock(),
                lookout.keep(),
            )
        ]
        self._watchdog = self._watch()
        self._watchdog.start()
        for queue in self._queues:
            self._broker.declare_queue(queue)
        declare(self._broker, self._queues[0], lookout, self._loop, self._telemetry)
        self._worker = Worker(
            self._broker, queues=set(self._queues), worker_timeout=int(BLOCK * 1000), worker_threads=THREADS
        )
        settle()
        self._worker.start()
        self._health = self._watch_health()
        self._health.start()
        for queue in self._queues:  # whatever fell due while nobody was here
            self._doorbell.ring(queue)
        _log.info("worker.started", queues=self._queues, concurrency=self._settings.concurrency)

    def stop(self) -> None:
        """Drains and stops: no new work, running nodes get the grace time, the rest is given back."""
        self._ending = True
        _log.info("worker.draining", in_flight=self._engine.in_flight)
        self._health.drain()
        self._in_loop(self._engine.stop(self._settings.drain_grace))
        self._worker.stop(timeout=5_000)
        self._health.stop()
        for keeper in self._keepers:
            keeper.cancel()
        for close in reversed(self._closing):
            self._in_loop(close())
        self._doorbell.close()
        self._watchdog.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        _log.info("worker.stopped")

    def call_in_loop(self, function: Callable[[], object]) -> None:
        """Calls a function in the engine's thread, soon."""
        self._loop.call_soon_threadsafe(function)

    def _in_loop(self, work: Awaitable[T]) -> T:
        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _watch(self) -> Watchdog:
        leases = self._engine.leases
        return Watchdog(
            self._loop,
            self._thread,
            leases,
            stall=_stall(self._settings) if self._on_stuck else math.inf,
            hand_over=HandOver(self._settings, self._owner, leases, self._pool),
            replace=self._give_up,
        )

    def _watch_health(self) -> Health:
        settings = self._settings
        return Health(
            owner=self._owner,
            queues=tuple(self._queues),
            capacity=lambda: self._pace.limit,
            loop=self._loop,
            database=self._database,
            tally=self._engine.tally,
            beats=Beats(settings.redis_url),
            consuming=lambda: all(thread.is_alive() for thread in self._worker.workers),
            in_flight=lambda: self._engine.in_flight,
            host=settings.worker_health_host,
            port=None if settings.worker_health_port < 0 else settings.worker_health_port,
        )

    def _give_up(self) -> None:
        """The loop is stuck, and nothing is held any more."""
        if self._ending:  # the main thread waits for the loop
            os._exit(STALLED)
        self.stuck = True
        if self._on_stuck is not None:
            self._on_stuck()

    async def _compose(self) -> Engine:
        settings, database, owner = self._settings, self._database, self._owner
        registry = Registry.load(settings.node_modules)
        await database.open_patiently()
        await self._renewals.open_patiently()
        work = WorkList(database, owner=owner, lease=settings.lease)
        writer = RunWriter(database, owner=owner, lease=settings.lease)
        writer.ring = self._doorbell.ring
        writer.took = self._pace.observe
        self._announcer = Announcer(settings.redis_url)
        writer.wrote = self._announcer.committed
        snapshots = Snapshots(settings.state_redis_url, database)
        pool = self._pool = KillablePool(settings.node_processes, settings.node_modules)
        client = outbound_client(settings.egress_allow, self._telemetry)
        cached = CacheStore(settings.state_redis_url)
        self._closing += [self._announcer.close, snapshots.close, cached.aclose, pool.aclose, client.aclose]
        store = LogStore(database)
        workflows = Workflows(database, registry)
        services = Services(
            clock=database.clock,
            journal=writer.journal(),
            store=store,
            snapshots=snapshots,
            attempts=Attempts(
                clock=database.clock,
                registry=registry,
                pool=pool,
                client=client,
                endpoints=endpoint_resolver(database, settings.secret_key),
                telemetry=self._telemetry,
                store=store,
                find=workflows.named,
                limits=Limits(database),
                cache=NodeCache(cached),
            ),
            telemetry=self._telemetry,
            draining=asyncio.Event(),
        )
        self._listening = Listening(database, store)
        duties = Duties(
            queues=frozenset(self._queues),
            database=database,
            work=work,
            writer=writer,
            workflows=workflows,
            snapshots=snapshots,
            services=services,
            listening=self._listening,
            max_recoveries=settings.max_recoveries,
        )
        return Engine(
            queues=self._queues,
            work=work,
            duties=duties,
            doorbell=self._doorbell,
            draining=services.draining,
            pace=self._pace,
            renewals=WorkList(self._renewals, owner=owner, lease=settings.lease),
        )


def _stall(settings: Settings) -> float:
    """Seconds of silence after which the loop is given up; before its leases run out, unless they are very short."""
    if settings.loop_stall == 0:
        return math.inf
    return min(settings.loop_stall, max(settings.lease / 2, 2.0))
