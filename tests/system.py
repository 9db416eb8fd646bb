"""A whole Headrace for tests: real processes on a fresh database, faults where a test wants them.

system.ingest(); worker = system.worker(faults="run.commit.after@2=kill"); system.relay()
await system.apply(WORKFLOW); await system.post(b"{}"); await system.until_quiet()
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import msgspec

from events.database import Database
from events.definitions import Applying
from events.secretbox import SecretBox
from executor.engine.workflows import wait_rows
from executor.workflow.graph import compile_workflow, content_hash, parse_workflow
from ingest.parsing import parse_source
from ingest.signing import sign

SECRET = "a secret of the tests"
SECRET_KEY = "dGVzdHMgb2YgaGVhZHJhY2U6IDMyIGJ5dGVzIGtleSE="
PATIENCE = 60.0


class System:
    """Processes of one test. `lease` (seconds) is short, so that a death is noticed soon."""

    def __init__(self, directory: Path, database_url: str, redis_urls: tuple[str, str], lease: float = 1.5) -> None:
        self.directory = directory
        self.record = directory / "record.txt"
        self.database = Database(database_url, "operator")
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "OTEL_"))
        } | {
            "HEADRACE_DATABASE_URL": database_url,
            "HEADRACE_REDIS_URL": redis_urls[0],
            "HEADRACE_STATE_REDIS_URL": redis_urls[1],
            "HEADRACE_SECRET_KEY": SECRET_KEY,
            "HEADRACE_LEASE": str(lease),
            "HEADRACE_RELAY_POLL": "0.1",
            "HEADRACE_NODE_MODULES": "tests.nodes",
            "HEADRACE_EGRESS_ALLOW": "127.0.0.0/8",
            "HEADRACE_DRAIN_GRACE": "3",
            "HEADRACE_LOG_FORMAT": "json",
        }
        self.url = ""
        self._processes: list[Process] = []
        self._client = httpx2.AsyncClient(timeout=30)

    async def __aenter__(self) -> System:
        await self.database.open()
        return self

    async def __aexit__(self, *failure: object) -> None:
        for process in self._processes:
            process.end()
        await self._client.aclose()
        await self.database.close()

    def process(self, name: str, *command: str, faults: str = "", more: Mapping[str, str] = {}) -> Process:
        process = Process(
            self.directory / f"{name}-{len(self._processes)}.log",
            [faults, *command],
            self.environment | dict(more),
        )
        self._processes.append(process)
        return process

    def worker(self, queue: str = "webhook", *, faults: str = "", more: Mapping[str, str] = {}) -> Process:
        return self.process("worker", "worker", "--queue", queue, faults=faults, more=more)

    def relay(self) -> Process:
        return self.process("relay", "relay")

    async def ingest(self, *, faults: str = "", port: int = 0) -> Process:
        """Returns when it is ready; `url` is its address."""
        process = self.process("ingest", "ingest", "--port", str(port), faults=faults)
        line = await process.says("ingest.listening")
        self.url = line["url"]

        async def ready() -> bool:
            return (await self._client.get(f"{self.url}/health/ready")).status_code == 200

        await until(ready, "ingest is ready")
        return process

    async def apply(self, *workflows: dict[str, Any], source: dict[str, Any] | None = None, workspace: int = 1) -> None:
        """A GitHub source `hub`, or the one given, and workflows."""
        document = source or {"source": "hub", "preset": "github", "secrets": [SECRET]}
        async with Applying(self.database, workspace) as applying:
            id = await applying.source_id(document["source"])
            sealed = SecretBox(SECRET_KEY).seal(SECRET.encode(), f"source/{id}")
            await applying.source(
                id,
                document["source"],
                msgspec.to_builtins(parse_source(document)),
                [sealed],
                same_secrets=False,
            )
            for workflow in workflows:
                hash = content_hash(workflow)
                waits = wait_rows(compile_workflow(parse_workflow(workflow), hash))
                await applying.workflow(workflow["workflow"], hash, workflow, waits)

    async def post(
        self,
        body: bytes = b"{}",
        *,
        event: str = "push",
        id: str | None = None,
        headers: Mapping[str, str] = {},
    ) -> httpx2.Response:
        """One signed webhook, sent once."""
        delivery = id or f"delivery-{time.monotonic_ns()}"
        signed = dict(sign("github", SECRET, event, delivery, body, time.time()))
        return await self._client.post(f"{self.url}/in/hub", content=body, headers=signed | dict(headers))

    async def deliver(self, body: bytes = b"{}", **more: Any) -> UUID:
        """One signed webhook that must be accepted; its id. `more`: as `post`."""
        response = await self.post(body, **more)
        assert response.status_code == 202, response.text
        return UUID(response.json()["id"])

    async def until_quiet(self, patience: float = PATIENCE) -> None:
        """Waits until the work list is empty."""

        async def quiet() -> bool:
            return await self.count("SELECT count(*) FROM work_item") == 0

        await until(quiet, "the work list is empty", patience)

    async def count(self, query: str, *arguments: object) -> int:
        return int(await self.database.fetchval(query, *arguments))

    def recorded(self) -> list[tuple[str, str, int, str]]:
        """(run, node, attempt, key) of every call that a node noted."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [(run, node, int(attempt), key) for run, node, attempt, key in (line.split() for line in lines)]

    async def check(self, deliveries: int, nodes: int, status: str = "completed") -> None:
        """Every delivery has one run that ended well, in a gapless history in which no node completed twice."""
        assert await self.count("SELECT count(*) FROM event WHERE type = 'delivery.received'") == deliveries
        assert await self.count("SELECT count(*) FROM run WHERE status = $1", status) == deliveries
        assert await self.count("SELECT count(*) FROM run") == deliveries
        for query, expected in (
            ("SELECT count(*) FROM event WHERE type = 'node.completed'", deliveries * nodes),
            (_DISTINCT_NODES, deliveries * nodes),
            (_GAPS, 0),
            (_WRONG_HEADS, 0),
        ):
            assert await self.count(query) == expected, query


_DISTINCT_NODES = """
SELECT count(DISTINCT (stream_id, convert_from(body, 'UTF8')::jsonb ->> 'node'))
FROM event WHERE type = 'node.completed'
"""
_GAPS = "SELECT count(*) FROM (SELECT FROM event GROUP BY stream_id HAVING max(version) + 1 <> count(*)) AS gaps"
_WRONG_HEADS = """
SELECT count(*) FROM run WHERE version <> (SELECT max(version) FROM event WHERE stream_id = run.id)
"""


class Process:
    """One child."""

    def __init__(self, log: Path, arguments: list[str], environment: dict[str, str]) -> None:
        self.log = log
        with open(log, "wb") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.faulty", *arguments], stdout=out, stderr=out, env=environment
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def end(self) -> None:
        """SIGTERM, then SIGKILL; also for one that is stopped."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGCONT)
            self._child.terminate()
            try:
                self._child.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    async def dies(self, by: signal.Signals = signal.SIGKILL) -> None:
        await until(self._dead, f"{self.log.name} dies")
        assert self._child.returncode == -by, self.log.read_text()

    async def ends(self) -> None:
        """Waits until it has ended, with status 0."""
        await until(self._dead, f"{self.log.name} ends")
        assert self._child.returncode == 0, self.log.read_text()

    async def fails(self) -> int:
        """Waits until it has ended by itself, with another status than 0, which is answered."""
        await until(self._dead, f"{self.log.name} fails")
        assert self._child.returncode > 0, self.log.read_text()
        return int(self._child.returncode)

    async def finishes(self) -> None:
        """SIGTERM, which it follows with status 0."""
        self._child.terminate()
        await self.ends()

    async def _dead(self) -> bool:
        return self._child.poll() is not None

    async def stops(self) -> None:
        """Waits until it has stopped itself (SIGSTOP)."""

        async def stopped() -> bool:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

        await until(stopped, f"{self.log.name} stops")

    async def says(self, *events: str) -> dict[str, Any]:
        """Waits for a log line with one of these events."""
        found: dict[str, Any] = {}

        async def said() -> bool:
            assert self._child.poll() is None, self.log.read_text()
            for line in self.log.read_text().splitlines():
                if any(f'"{event}"' in line for event in events):
                    found.update(json.loads(line))
            return bool(found)

        await until(said, f"{self.log.name} says {events}")
        return found


async def until(condition: Callable[[], Awaitable[bool]], what: str, patience: float = PATIENCE) -> None:
    """Waits for a condition, and fails with its name."""
    deadline = time.monotonic() + patience
    while not await condition():
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        await asyncio.sleep(0.02)


def chain(path: Path, *names: str, uses: str = "test.record", **more: Any) -> dict[str, Any]:
    """A workflow of nodes one after another."""
    nodes: dict[str, Any] = {}
    for name in names:
        nodes[name] = {"uses": uses, "with": {"path": str(path), **more}} | (
            {"needs": [list(nodes)[-1]]} if nodes else {}
        )
    return {"workflow": "chain", "on": [{"source": "hub"}], "nodes": nodes}
