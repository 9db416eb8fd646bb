"""What the benchmarks share: servers of their own, child processes, percentiles, tables and result files.

Everything runs on this machine and on 127.0.0.1, is bounded in count and time, and ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import msgspec
from rich.console import Console
from rich.table import Table

from events.database import Database
from events.definitions import Applying
from events.doorbell import broker_for, ring_now
from events.secretbox import SecretBox
from executor.cli.embedded import EmbeddedPostgres, EmbeddedRedis, scratch
from executor.workflow.graph import content_hash
from ingest.definition import SourceDefinition
from ingest.parsing import parse_source
from migrations.run import upgrade_async

RESULTS = Path(".headrace/bench")
SECRET = "a secret of the benchmark"
SECRET_KEY = "aGVhZHJhY2UgYmVuY2htYXJrIGtleSwgMzIgYnl0ZXM="[:44]
POSTGRES_SETTINGS = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "min_wal_size": "2GB",
    "checkpoint_timeout": "15min",
}


class Stand:
    """A fresh PostgreSQL (fsync on) and Valkey, a migrated database, and the environment of processes that use them."""

    def __init__(self, directory: Path) -> None:
        self._postgres = EmbeddedPostgres(directory / "postgres", settings=POSTGRES_SETTINGS)
        self._redis = EmbeddedRedis(directory / "redis", persist=False)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.scratch = directory

    def start(self) -> None:
        self._postgres.start()
        self._redis.start()

    def stop(self) -> None:
        for process in self._processes:
            stop(process)
        self._redis.kill()
        self._postgres.stop("immediate")

    async def season(self) -> None:
        """Gives the server the write-ahead segments that one which has run for a while has: making a new one stalls
        every commit for some 50 ms, which would measure a first minute and not a service.
        """
        admin = await asyncpg.connect(self._postgres.url)
        for _ in range(120):
            await admin.execute("SELECT pg_logical_emit_message(false, 'season', 'ed')")
            await admin.execute("SELECT pg_switch_wal()")
        await admin.execute("CHECKPOINT")
        await admin.close()

    async def fresh_database(self, name: str) -> None:
        """Makes and migrates a database; from now on everything uses it."""
        self.database_url = await self.empty_database(name)
        await upgrade_async(self.database_url)

    async def empty_database(self, name: str) -> str:
        """Makes a database and answers its URL."""
        admin = await asyncpg.connect(self._postgres.url)
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.close()
        return self._postgres.database_url(name)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "HEADRACE_DATABASE_URL": self.database_url,
            "HEADRACE_REDIS_URL": self._redis.database_url(0),
            "HEADRACE_STATE_REDIS_URL": self._redis.database_url(1),
            "HEADRACE_SECRET_KEY": SECRET_KEY,
            "HEADRACE_LOG_LEVEL": "warning",
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def spawn(self, name: str, *command: str, more: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
        """A child whose output goes to a log file in the scratch directory."""
        with open(self.scratch / f"{name}.log", "ab") as log:
            process = subprocess.Popen(command, env=self.environment | dict(more), stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def headrace(self, name: str, *arguments: str, more: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
        return self.spawn(name, sys.executable, "-m", "executor.cli.main", *arguments, more=more)

    def ring(self, queue: str) -> None:
        """As whoever made work due would."""
        with contextlib.closing(broker_for(self._redis.database_url(0), [])) as broker:
            ring_now(broker, queue)

    def log(self, name: str) -> str:
        return (self.scratch / f"{name}.log").read_text()[-3000:]

    @contextlib.asynccontextmanager
    async def database(self, role: Any = "operator") -> AsyncIterator[Database]:
        database = Database(self.database_url, role)
        await database.open()
        try:
            yield database
        finally:
            await database.close()

    async def apply(self, workflow: dict[str, Any] | None) -> None:
        """A GitHub source named `bench` and perhaps a workflow."""
        definition: SourceDefinition = parse_source({"source": "bench", "preset": "github", "secrets": [SECRET]})
        async with self.database() as database, Applying(database) as applying:
            id = await applying.source_id("bench")
            sealed = SecretBox(SECRET_KEY).seal(SECRET.encode(), f"source/{id}")
            await applying.source(id, "bench", msgspec.to_builtins(definition), [sealed], same_secrets=False)
            if workflow is not None:
                await applying.workflow(workflow["workflow"], content_hash(workflow), workflow)


@contextlib.contextmanager
def stand() -> Iterator[Stand]:
    with scratch() as directory:
        made = Stand(directory)
        made.start()
        try:
            yield made
        except BaseException:
            for log in sorted(directory.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
            raise
        finally:
            made.stop()


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_ready(port: int, process: subprocess.Popen[bytes], patience: float = 30.0) -> None:
    """Waits until a server answers: `/health/ready` with 200, or, where it has no such route, with anything."""
    deadline = time.monotonic() + patience
    async with httpx2.AsyncClient() as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise SystemExit(f"{process.args!r}: ended with {process.returncode}")
            with contextlib.suppress(httpx2.TransportError):
                response = await client.get(f"http://127.0.0.1:{port}/health/ready")
                if response.status_code in (200, 404):
                    return
            await asyncio.sleep(0.05)
    raise SystemExit(f"{process.args!r}: expected it to be ready on {port} within {patience:g} s")


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    return (
        f"{os.cpu_count()} cores ({cpu}), Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def publish(
    name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], figures: dict[str, Any]
) -> None:
    """Prints the table and writes the figures to `.headrace/bench/NAME.json`."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "machine": machine()} | figures, indent=2) + "\n")
    print(f"figures: {path}")
