"""`headrace ingest`, `worker`, `relay`, `migrate`: each process's entry, where its settings are read, once.

Every process ends cleanly, with status 0, on SIGTERM and SIGINT; a worker drains, and a second signal ends it
at once. A worker whose event loop is stuck begins again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

import rich_click as click
import structlog
import uvicorn
import uvloop

from events.database import Database, translated
from events.doorbell import broker_for
from events.errors import ConfigError, Unavailable
from events.logs import configure_logging
from events.otel import make_telemetry
from events.settings import Settings, load_settings
from events.telemetry import Telemetry
from events.types import QUEUES
from executor.cli.several import several
from executor.worker.relay import Relay

GRACE = 10
"""Seconds that requests under way get when ingest ends."""
BACKLOG = 2048
"""Connections that may wait to be accepted."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_log = structlog.get_logger(__name__)


def begin(service: str, **overrides: Any) -> tuple[Settings, Telemetry]:
    """Settings, logging and telemetry of a process. Whoever began closes the telemetry at the end."""
    settings = load_settings(os.environ, **overrides)
    configure_logging(settings.log_format, settings.log_level)
    return settings, make_telemetry(service, os.environ)


@click.command()
@click.option("--host", help="The address to listen on.  [ingest_host, 127.0.0.1]")
@click.option("--port", type=int, help="The port to listen on; 0 lets the system pick.  [ingest_port, 8080]")
def ingest(host: str | None, port: int | None) -> None:
    """Run the public HTTP service: POST /in/SOURCE, acknowledged once it is durable."""
    from ingest.app import create_app  # noqa: PLC0415 - no other process pays for the web framework
    from ingest.connections import Connections  # noqa: PLC0415
    from ingest.protocol import protocol  # noqa: PLC0415

    settings, telemetry = begin("headrace-ingest", ingest_host=host, ingest_port=port)
    app = create_app(settings, telemetry)
    listener = listener_on("ingest", settings.ingest_host, settings.ingest_port)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol(Connections.of(settings)),
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,  # ingest.peers asks who the sender is, and believes trusted_proxies alone
        server_header=False,
        log_config=None,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE,
    )
    with listener, contextlib.closing(telemetry):
        Server(config, "ingest").run(sockets=[listener])


class Server(uvicorn.Server):
    """uvicorn, which says where it listens and ends with status 0 when it is told to end.

    Args:
        on_end: called when it is told to end, before it waits for what is under way.
    """

    def __init__(self, config: uvicorn.Config, name: str, on_end: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._name = name
        self._on_end = on_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_end()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            _log.info(
                f"{self._name}.listening", url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listener_on(name: str, host: str, port: int) -> socket.socket:
    """A socket that is bound.

    Raises:
        Unavailable: it cannot be.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, *_, address = found[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise Unavailable(
            f"{name}: expected to listen on {host}:{port}, got: {error.strerror}; see --host and --port"
        ) from None
    return listener


@click.command()
@click.option(
    "--queue",
    "queues",
    multiple=True,
    required=True,
    type=click.Choice(QUEUES),
    help="A queue to serve; may be repeated.",
)
@click.option("--concurrency", type=int, help="How many runs to hold at once.  [concurrency, 256]")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="How many workers to run.")
def worker(queues: tuple[str, ...], concurrency: int | None, processes: int) -> None:
    """Run a worker: it takes what is due in its queues and carries workflows out."""
    if processes > 1:
        _several(queues, concurrency, processes)
        return
    from executor.worker.app import WorkerProcess  # noqa: PLC0415 - see `ingest`

    settings, telemetry = begin("headrace-worker", concurrency=concurrency)
    asked = threading.Event()
    process = WorkerProcess(settings, queues, telemetry, on_stuck=asked.set)

    def end(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()

    for number in _SIGNALS:
        signal.signal(number, end)
    with contextlib.closing(telemetry):
        process.start()
        asked.wait()
        if not process.stuck:
            process.stop()
    if process.stuck:
        _begin_again()


def _several(queues: tuple[str, ...], concurrency: int | None, processes: int) -> None:
    """The settings are read here first: what is wrong with them is told once."""
    settings = load_settings(os.environ, concurrency=concurrency)
    configure_logging(settings.log_format, settings.log_level)
    if settings.worker_health_port > 0:
        fault = f"expected 0 or -1 with --processes {processes}, got {settings.worker_health_port}"
        raise ConfigError("settings", [f"worker_health_port: {fault}: they cannot share a port"])
    command = [sys.executable, "-m", "executor.cli.main", "worker"]
    command += [part for queue in queues for part in ("--queue", queue)]
    if concurrency is not None:
        command += ["--concurrency", str(concurrency)]
    several(command, processes)


def _begin_again() -> NoReturn:
    """Replaces this process by a new one of the same command line, under the same pid (`executor.worker.watchdog`)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


@click.command()
def relay() -> None:
    """Run the relay: it rings for due work, makes the log's partitions and deletes old refused requests."""
    settings, telemetry = begin("headrace-relay")
    with contextlib.closing(telemetry):
        uvloop.run(_relay(settings))


async def _relay(settings: Settings) -> None:
    database = Database(settings.database_url, "relay", size=2)
    broker = broker_for(settings.redis_url, [])
    relay = Relay(
        database,
        broker,
        poll=settings.relay_poll,
        weeks=settings.partition_weeks,
        rejected_retention=settings.rejected_retention,
    )
    task = asyncio.create_task(_run(relay, database))
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        await database.close()


async def _run(relay: Relay, database: Database) -> None:
    await database.open_patiently()
    _log.info("relay.started")
    await relay.run()


@click.command()
def migrate() -> None:
    """Bring the database to the newest schema.

    database_url must be an administrator's. A role may log in by itself once it was given a password through
    HEADRACE_INGEST_PASSWORD, HEADRACE_WORKER_PASSWORD, HEADRACE_RELAY_PASSWORD or HEADRACE_OPERATOR_PASSWORD
    (or …_FILE).
    """
    from migrations.run import upgrade_async  # noqa: PLC0415 - see `ingest`

    settings = load_settings(os.environ)
    if not settings.database_url:
        fault = "database_url: expected an administrator's postgresql://…, got nothing"
        raise ConfigError("settings", [f"{fault}; set HEADRACE_DATABASE_URL"])
    with translated():
        asyncio.run(upgrade_async(settings.database_url, role_passwords=settings.role_passwords()))
    click.echo("the database has the newest schema", err=True)
