"""PostgreSQL goes away, in every way, under load; ingest has a spool, is killed, and comes back. Redis is away always.

With a spool every sender is answered 202, and in the end each acknowledged delivery is in the log once, in the order in
which its sender sent. Without one every sender is told at once to come again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx2
import pytest

from events.codec import unpack
from events.ids import dedup_key, uuid7
from events.types import Accepted, Receipt
from executor.cli.embedded import EmbeddedPostgres, EmbeddedRedis
from ingest.readiness import AWAY
from ingest.spool_rows import encode
from ingest.spool_store import Store
from tests.faults.test_stores import free_port
from tests.senders import Senders
from tests.system import Process, System, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

How = Literal["fast", "immediate", "frozen"]


class Site:
    """An ingest with a spool, its PostgreSQL, and what was acknowledged."""

    def __init__(self, system: System, postgres: EmbeddedPostgres) -> None:
        self.system = system
        self.postgres = postgres
        self.spool = system.directory / "spool"
        self.port = free_port()
        self.seeded: dict[UUID, bytes] = {}
        self._series = 1000

    async def ingest(self) -> Process:
        """Starts it; returns when it takes deliveries."""
        return await self.system.ingest(port=self.port)

    def raw_ingest(self, faults: str = "") -> Process:
        """Starts it; it may die before it is ready."""
        return self.system.process("ingest", "ingest", "--port", str(self.port), faults=faults)

    async def ready(self) -> dict[str, Any]:
        async with httpx2.AsyncClient() as client:
            found: dict[str, Any] = (await client.get(f"{self.system.url}/health/ready")).json()
            return found

    async def says(self, status: str, code: int = 200) -> dict[str, Any]:
        """Waits until it says so: an answer may be a second old."""
        found: dict[str, Any] = {}

        async def so() -> bool:
            async with httpx2.AsyncClient() as client:
                answer = await client.get(f"{self.system.url}/health/ready")
            found.update(answer.json())
            return (answer.status_code, found["status"]) == (code, status)

        await until(so, f"ingest is {status}")
        return found

    async def holds_rows(self) -> bool:
        """Whether deliveries wait in its spool, as it says; an answer may be a second old."""
        return bool((await self.says("spooling"))["rows"] > 0)

    def seed(self, count: int) -> None:
        """As if so many deliveries of one more sender had been acknowledged by the process that died last."""
        self._series += 1
        store = Store(self.spool)
        rows = []
        for number in range(count):
            body = json.dumps({"sender": self._series, "number": number, "padding": "w" * (number % 900)}).encode()
            key = dedup_key(b"%d" % self._series, b"%d" % number)
            rows.append(Receipt(uuid7(time.time()), 1, self.source, key, '{"source": "hub"}', b"a: b", body))
        assert store.insert(rows, [encode(row) for row in rows]) == [Accepted(row.stream_id) for row in rows]
        store.close()
        self.seeded |= {row.stream_id: row.body for row in rows}

    async def know(self) -> None:
        """Looks up the source, while PostgreSQL is there."""
        self.source = await self.system.count("SELECT id FROM source WHERE slug = 'hub'")

    async def back(self) -> None:
        """Starts PostgreSQL, and connects to it."""
        await asyncio.to_thread(self.postgres.start)
        await self.system.database.close()
        await self.system.database.open()

    async def check(self, senders: Senders | None = None) -> None:
        """Everything acknowledged is in the log, once, byte for byte, each sender's in its order."""
        acknowledged = self.seeded | (senders.acknowledged if senders else {})
        rows = await self.system.database.fetch(
            "SELECT stream_id, codec, body FROM event WHERE type = 'delivery.received' ORDER BY position"
        )
        bodies = {row["stream_id"]: unpack(row["codec"], row["body"]) for row in rows}
        assert len(bodies) == len(rows)
        elsewhere = self.duplicates()
        lost = [id for id, body in acknowledged.items() if bodies.get(elsewhere.get(id, id)) != body]
        assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged deliveries are not in the log"
        numbers: dict[int, list[int]] = defaultdict(list)
        for body in bodies.values():
            document = json.loads(body)
            numbers[document["sender"]].append(document["number"])
        for sender, those in numbers.items():
            assert those == sorted(set(those)), f"sender {sender}: out of order or twice"
        keys = await self.system.count("SELECT count(*) FROM delivery_key")
        items = await self.system.count("SELECT count(*) FROM work_item")
        assert keys == items == len(rows)

    def duplicates(self) -> dict[UUID, UUID]:
        """What the drain found in the log under another id than its sender was told."""
        found = {}
        for path in self.system.directory.glob("ingest-*.log"):
            for line in path.read_text().splitlines():
                if '"spool.duplicate"' in line:
                    said = json.loads(line)
                    found[UUID(said["delivery"])] = UUID(said["first"])
        return found


@pytest.fixture
async def site(fragile: tuple[System, EmbeddedPostgres, EmbeddedRedis]) -> Site:
    """A source is applied; Redis is away."""
    system, postgres, redis = fragile
    redis.kill()
    made = Site(system, postgres)
    system.environment["HEADRACE_SPOOL_DIR"] = str(made.spool)
    await system.apply()
    await made.know()
    return made


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            children.append(int(stat.parent.name))
    return [pid, *children]


@contextmanager
def frozen(postgres: EmbeddedPostgres) -> Iterator[None]:
    """PostgreSQL takes connections and answers nothing: a black hole."""
    os.kill(postgres.pid, signal.SIGSTOP)
    pids = family(postgres.pid)
    try:
        for pid in pids[1:]:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("how", ["fast", "immediate", "frozen"])
async def test_postgres_away_under_load_and_everybody_is_acknowledged(site: Site, how: How) -> None:
    await site.ingest()
    senders = Senders(site.system, count=6)
    for goal in (60, 400):
        await senders.until(goal)
        if how == "frozen":
            with frozen(site.postgres):
                await senders.until(goal + 150)
                await site.says("spooling")
        else:
            await asyncio.to_thread(site.postgres.stop, how)
            await senders.until(goal + 150)
            await until(site.holds_rows, "its spool holds rows")
            await site.back()
        await site.says("ready")
    await senders.until(len(senders.acknowledged) + 50)
    await senders.end()
    assert (senders.refused, senders.repeated, senders.given_up) == ([], 0, 0)
    await site.check(senders)


ROUNDS = 4
KILLS = 3


@pytest.mark.slow
async def test_killed_again_and_again_while_spooling_and_while_draining(site: Site) -> None:
    """24 kills: half while PostgreSQL is away, half while the spool is drained, at random times; senders go on."""
    chance = random.Random()
    process = await site.ingest()
    senders = Senders(site.system, count=6, tries=2000)
    await senders.until(50)
    survivors = 0
    for number in range(ROUNDS):
        await asyncio.to_thread(site.postgres.stop, "immediate" if number % 2 else "fast")
        for _ in range(KILLS):
            await senders.until(len(senders.acknowledged) + chance.randrange(5, 40))
            process.kill()
            process = await site.ingest()
        process.kill()
        site.seed(4000)
        await site.back()
        for _ in range(KILLS):
            process = site.raw_ingest()
            await process.says("ingest.listening")
            await asyncio.sleep(chance.uniform(0, 0.5))  # when, is what chance decides here
            process.kill()
            survivors += len_of(site.spool) > 0
        process = await site.ingest()
        await site.says("ready")
    await senders.until(len(senders.acknowledged) + 20)
    await senders.end()
    assert senders.given_up == 0
    assert survivors > 0, "no kill came while rows were left"
    await site.check(senders)


def len_of(spool: Path) -> int:
    store = Store(spool)
    try:
        return store.rows
    finally:
        store.close()


@pytest.mark.parametrize("point", ["spool.appended@1", "spool.appended@7"])
async def test_killed_between_the_spools_commit_and_the_answer(site: Site, point: str) -> None:
    await (await site.ingest()).finishes()
    await asyncio.to_thread(site.postgres.stop)
    process = site.raw_ingest(f"{point}=kill")
    site.system.url = (await process.says("ingest.listening"))["url"]
    senders = Senders(site.system, count=4)
    await process.dies()
    await site.ingest()
    await senders.until(100)
    await site.back()
    await site.says("ready")
    await senders.end()
    await site.check(senders)


@pytest.mark.parametrize(
    ("step", "nth"), [("read", 1), ("read", 3), ("committed", 1), ("committed", 3), ("deleted", 3)]
)
async def test_killed_between_two_steps_of_a_drain(site: Site, step: str, nth: int) -> None:
    await (await site.ingest()).finishes()
    site.seed(3500)
    for _ in range(2):
        before = len_of(site.spool)
        process = site.raw_ingest(f"spool.drain.{step}@{nth}=kill")
        await process.dies()
        assert 0 < len_of(site.spool) <= before
        site.seed(4000)
    await site.ingest()
    await site.says("ready")
    await site.check()
    assert len_of_running(site) == 0


def len_of_running(site: Site) -> int:
    return int(httpx2.get(f"{site.system.url}/health/ready").json().get("rows", 0))


async def test_a_start_without_postgres_serves_what_was_known(site: Site) -> None:
    process = await site.ingest()
    before = await site.system.deliver(b'{"sender": 1, "number": 1}')
    await process.finishes()
    await asyncio.to_thread(site.postgres.stop)
    await site.ingest()
    assert (await site.ready())["status"] == "spooling"
    after = await site.system.deliver(b'{"sender": 1, "number": 2}')
    unknown = httpx2.post(f"{site.system.url}/in/unknown", content=b"{}")
    assert (unknown.status_code, unknown.headers.get("retry-after") is not None) == (503, True), "it cannot be known"
    await site.back()
    await site.says("ready")
    site.seeded |= {before: b'{"sender": 1, "number": 1}', after: b'{"sender": 1, "number": 2}'}
    await site.check()


async def test_a_first_start_without_postgres_waits_for_it(site: Site) -> None:
    await asyncio.to_thread(site.postgres.stop)
    process = site.raw_ingest()
    site.system.url = (await process.says("ingest.listening"))["url"]
    assert httpx2.get(f"{site.system.url}/health/ready").status_code == 503
    assert (await site.system.post()).status_code == 503
    await site.back()
    await site.says("ready")
    await site.system.deliver()


async def test_a_full_spool_tells_senders_to_come_again(site: Site) -> None:
    site.system.environment["HEADRACE_SPOOL_LIMIT"] = "20KB"
    await site.ingest()
    await site.system.deliver(b'{"sender": 1, "number": 0}')
    await asyncio.to_thread(site.postgres.stop)
    number = 0
    while True:
        number += 1
        body = json.dumps({"sender": 1, "number": number, "noise": random.randbytes(300).hex()}).encode()
        response = await site.system.post(body)
        if response.status_code != 202:
            break
        site.seeded[UUID(response.json()["id"])] = body
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert number > 5
    await site.says("full", 503)
    await site.back()
    await site.says("ready")
    await site.check()
    await site.system.deliver()


async def test_equal_deliveries_count_once_wherever_the_first_one_is(site: Site) -> None:
    process = await site.ingest()
    stored = await site.system.deliver(b'{"sender": 1, "number": 1}', id="one")
    await asyncio.to_thread(site.postgres.stop)
    again = await site.system.deliver(b'{"sender": 1, "number": 1}', id="one")
    fresh = await site.system.post(b'{"sender": 1, "number": 2}', id="two")
    repeated = await site.system.post(b'{"sender": 1, "number": 2}', id="two")
    assert fresh.json()["duplicate"] is False
    assert repeated.json() == {"id": fresh.json()["id"], "duplicate": True}
    await site.back()
    said = await process.says("spool.duplicate")
    assert (said["delivery"], said["first"]) == (str(again), str(stored))
    await site.says("ready")
    for sent in (b'{"sender": 1, "number": 1}', b'{"sender": 1, "number": 2}'):
        site.seeded[stored if b"1}" in sent else UUID(fresh.json()["id"])] = sent
    await site.check()
    after = await site.system.post(b'{"sender": 1, "number": 2}', id="two")
    assert after.json() == {"id": fresh.json()["id"], "duplicate": True}


@pytest.mark.parametrize("there", [False, True], ids=["postgres away", "postgres there"])
async def test_sigterm_loses_nothing(site: Site, there: bool) -> None:
    process = await site.ingest()
    await asyncio.to_thread(site.postgres.stop)
    senders = Senders(site.system, count=4)
    await senders.until(60)
    await senders.end()
    if there:
        process.kill()
        site.seed(6000)
        await site.back()
        process = site.raw_ingest()
        await process.says("ingest.listening")
    await process.finishes()
    assert (len_of(site.spool) == 0) is there
    if not there:
        await site.back()
        await site.ingest()
        await site.says("ready")
    await site.check(senders)


async def test_a_spool_has_one_process(site: Site) -> None:
    await site.ingest()
    other = site.system.process("ingest", "ingest", "--port", "0")
    await other.fails()
    assert "give each ingest process a spool_dir of its own" in other.log.read_text()
    assert "Traceback" not in other.log.read_text()
    await site.system.deliver()


@pytest.mark.parametrize("how", ["fast", "frozen"])
async def test_without_a_spool_senders_are_told_at_once_to_come_again(site: Site, how: How) -> None:
    """A hundred deliveries, one after the other, against a PostgreSQL that does not answer: only the first waits."""
    del site.system.environment["HEADRACE_SPOOL_DIR"]
    await site.ingest()
    await site.system.deliver()

    async def refused() -> None:
        for _ in range(100):
            response = await site.system.post()
            assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert (await site.says("not ready", 503))["reason"] == AWAY

    if how == "frozen":
        with frozen(site.postgres):
            await refused()
    else:
        await asyncio.to_thread(site.postgres.stop)
        await refused()
        await site.back()
    await site.says("ready")
    await site.system.deliver()
