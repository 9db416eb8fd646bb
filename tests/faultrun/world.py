"""Everything that a fault run stands on: stores of its own, the proxy between, and a whole Headrace of real processes.

One ingest with a spool, `WORKERS` workers and a relay, all of which reach PostgreSQL through the proxy. What dies is
started again, as a supervisor would. Leaving ends all of it, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import httpx2
import redis.asyncio as redis

from executor.cli.children import free_port
from executor.cli.embedded import EmbeddedPostgres, EmbeddedRedis
from executor.workflow.yaml_text import load_yaml
from migrations.run import upgrade_async
from tests.faultrun.members import FAKETIME, Member
from tests.faultrun.proxy import Proxy
from tests.faultrun.sink import Sink
from tests.system import SECRET_KEY, System, until

LEASE = 3.0
"""Seconds; short, so that a take-over is soon, and long enough for a busy machine to renew it."""
CONCURRENCY = 48
"""Runs that a worker holds at once."""
WORKERS = 3
SKEW = 300
"""Seconds that a process's clock may be off from its start."""
WORKFLOWS = Path(__file__).with_name("workflows.yaml")


class World:
    """See the module's header; `world` makes one."""

    def __init__(
        self, directory: Path, postgres: EmbeddedPostgres, redis: EmbeddedRedis, proxy: Proxy, sink: Sink
    ) -> None:
        self.postgres, self.redis, self.proxy, self.sink = postgres, redis, proxy, sink
        self.store = asyncio.Lock()
        """Held by whoever stops a server."""
        self.members: dict[str, Member] = {}
        self.documents = load_yaml(WORKFLOWS.read_text().replace("SINK", sink.url))
        self.url = ""
        self._directory = directory

    @property
    def database_url(self) -> str:
        """The superuser's address, not through the proxy."""
        return self.postgres.database_url("headrace")

    async def prepare(self) -> None:
        """The schema, the source and the workflows."""
        admin = await asyncpg.connect(self.postgres.url)
        await admin.execute("CREATE DATABASE headrace")
        await admin.close()
        await upgrade_async(self.database_url)
        async with System(self._directory, self.database_url, (self.redis.url, self.redis.url)) as system:
            await system.apply(*self.documents)

    async def start(self, chance: random.Random) -> None:
        """All processes; returns when ingest is ready."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        commands = {"ingest": ["ingest", "--port", str(port)], "relay": ["relay"]}
        commands |= {f"worker-{number}": ["worker", "--queue", "webhook"] for number in range(1, WORKERS + 1)}
        environment = self._environment()
        for name, command in commands.items():
            skew = chance.randint(-SKEW, SKEW)
            self.members[name] = Member(self._directory, name, command, environment, skew)
            await asyncio.to_thread(self.members[name].start)

        async def ready() -> bool:
            return await self.status() == "ready"

        await until(ready, "ingest is ready")

    def _environment(self) -> dict[str, str]:
        address = self.database_url.replace(f":{self.postgres.port}/", f":{self.proxy.port}/")
        ours = {name: text for name, text in os.environ.items() if not name.startswith(("HEADRACE_", "OTEL_"))}
        return ours | {
            "HEADRACE_DATABASE_URL": address,
            "HEADRACE_REDIS_URL": self.redis.database_url(0),
            "HEADRACE_STATE_REDIS_URL": self.redis.database_url(1),
            "HEADRACE_SECRET_KEY": SECRET_KEY,
            "HEADRACE_SPOOL_DIR": str(self._directory / "spool"),
            "HEADRACE_LEASE": str(LEASE),
            "HEADRACE_CONCURRENCY": str(CONCURRENCY),
            "HEADRACE_MAX_RECOVERIES": "1000",  # deaths come from outside here; no run is to blame
            "HEADRACE_RELAY_POLL": "0.2",
            "HEADRACE_DRAIN_GRACE": "2",
            "HEADRACE_EGRESS_ALLOW": "127.0.0.0/8",
            "HEADRACE_LOG_FORMAT": "json",
        }

    async def supervise(self, say: Callable[[str], None]) -> None:
        """Starts again, until cancelled, what ended without anybody having killed it."""
        while True:
            await asyncio.sleep(0.2)
            for member in self.members.values():
                if not member.alive and not member.lock.locked():
                    member.fell += 1
                    say(f"{member.name} ended by itself")
                    await asyncio.to_thread(member.start)

    async def restart(self, name: str, after: float) -> None:
        """SIGKILL, and a new process that many seconds later."""
        member = self.members[name]
        async with member.lock:
            await asyncio.to_thread(member.kill)
            await asyncio.sleep(after)
            await asyncio.to_thread(member.start)

    async def flush(self) -> None:
        """FLUSHALL: doorbells and snapshots are gone."""
        async with self.store, redis.Redis.from_url(self.redis.url) as client:
            await client.flushall()

    async def backlog(self, told: Callable[[int], None]) -> None:
        """Tells, twice a second until cancelled, how many work items there are; nothing while PostgreSQL is away."""
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                connection = await asyncpg.connect(self.database_url, timeout=5)
                try:
                    while True:
                        told(await connection.fetchval("SELECT count(*) FROM work_item", timeout=5))
                        await asyncio.sleep(0.5)
                finally:
                    connection.terminate()
            await asyncio.sleep(0.5)

    async def quiet(self, patience: float) -> bool:
        """Waits until the spool and then the work list are empty; False if they are not within that many seconds."""
        connection = await asyncpg.connect(self.database_url)
        try:
            async with asyncio.timeout(patience):
                while await self.status() != "ready":
                    await asyncio.sleep(0.2)
                while await connection.fetchval("SELECT EXISTS (SELECT FROM work_item)"):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            return False
        finally:
            await connection.close()
        return True

    async def status(self) -> str:
        """How ingest says it is: `ready` with an empty spool, `spooling`, …; nothing if it does not answer."""
        try:
            async with httpx2.AsyncClient(timeout=5) as client:
                return str((await client.get(f"{self.url}/health/ready")).json()["status"])
        except httpx2.TransportError:
            return ""

    async def end(self) -> None:
        """Ends the processes, side by side."""
        await asyncio.gather(*(asyncio.to_thread(member.end) for member in self.members.values()))


@contextlib.asynccontextmanager
async def world(directory: Path, chance: random.Random) -> AsyncIterator[World]:
    """A world in `directory`, prepared but not started; leaving ends its processes, then its stores."""
    postgres = EmbeddedPostgres(directory / "postgres")
    redis = EmbeddedRedis(directory / "redis", persist=False)
    try:
        await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(redis.start))
        async with Proxy(postgres.port) as proxy, Sink(chance) as sink:
            made = World(directory, postgres, redis, proxy, sink)
            await made.prepare()
            try:
                yield made
            finally:
                await made.end()
    finally:
        redis.kill()
        postgres.stop("immediate")


def left_out() -> list[str]:
    """What this machine cannot do."""
    if FAKETIME is None:
        return ["LEFT OUT skewed clocks: no libfaketime here (Debian and Ubuntu: apt-get install faketime)"]
    return []
