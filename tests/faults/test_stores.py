"""Ingest is killed, Redis is wiped, PostgreSQL is restarted, under load: every 2xx is in the log, every run ends."""

from __future__ import annotations

import asyncio
import socket
from typing import Literal
from uuid import UUID

import pytest
import redis.asyncio as redis

from events import log
from executor.cli.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.senders import Senders
from tests.system import System, chain

pytestmark = pytest.mark.anyio


async def in_the_log(system: System, acknowledged: dict[UUID, bytes]) -> None:
    """Every acknowledged id is there, byte for byte, and nothing twice."""
    for id, body in acknowledged.items():
        (receipt, *_) = await log.stream(system.database, id)
        assert receipt.body == body
    keys = await system.count("SELECT count(*) FROM delivery_key")
    assert keys == await system.count("SELECT count(*) FROM event WHERE type = 'delivery.received'")
    assert keys >= len(acknowledged)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_ingest_killed_under_load_has_kept_whatever_it_acknowledged(system: System) -> None:
    port = free_port()
    await system.apply()
    ingest = await system.ingest(port=port)
    senders = Senders(system)
    for goal in (100, 200, 300):
        await senders.until(goal)
        ingest.kill()
        ingest = await system.ingest(port=port)
    await senders.until(400)
    await senders.end()
    assert senders.repeated > 0, "nobody noticed a kill"
    assert senders.given_up == 0
    await in_the_log(system, senders.acknowledged)


@pytest.mark.parametrize("point", ["ingest.appended@20", "ingest.batch_committed@10"])
async def test_ingest_killed_between_commit_and_answer_doubles_nothing(system: System, point: str) -> None:
    port = free_port()
    await system.apply()
    ingest = await system.ingest(faults=f"{point}=kill", port=port)
    senders = Senders(system)
    await ingest.dies()
    await system.ingest(port=port)
    await senders.until(100)
    await senders.end()
    await in_the_log(system, senders.acknowledged)
    duplicates = await system.count("SELECT count(*) FROM delivery_key") - len(senders.acknowledged)
    assert duplicates == 0, "what was committed before the kill is answered with its first id"


async def test_redis_flushed_again_and_again_costs_time_and_nothing_else(system: System) -> None:
    await system.apply(chain(system.record, "one", "two"))
    await system.ingest()
    system.relay()
    system.worker()
    senders = Senders(system, count=4)
    clients = [
        redis.Redis.from_url(system.environment[name]) for name in ("HEADRACE_REDIS_URL", "HEADRACE_STATE_REDIS_URL")
    ]
    for goal in range(20, 220, 10):
        await senders.until(goal)
        for client in clients:
            await client.flushdb()
    await senders.end()
    await system.until_quiet()
    await in_the_log(system, senders.acknowledged)
    await system.check(len(senders.acknowledged), nodes=2)
    assert len(system.recorded()) == 2 * len(senders.acknowledged), "nobody died, so nothing ran twice"
    for client in clients:
        await client.aclose()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_postgres_restarted_under_load(
    fragile: tuple[System, EmbeddedPostgres, EmbeddedRedis], mode: Literal["fast", "immediate"]
) -> None:
    system, postgres, _ = fragile
    await system.apply(chain(system.record, "one", "two"))
    await system.ingest()
    system.relay()
    await system.worker().says("worker.started")
    senders = Senders(system, count=6)
    for goal in (100, 200):
        await senders.until(goal)
        await asyncio.to_thread(postgres.stop, mode)
        refused = len(senders.refused)
        while len(senders.refused) < refused + 6:  # everybody is told to come again meanwhile
            await asyncio.sleep(0.01)
        await asyncio.to_thread(postgres.start)
    await senders.until(300)
    await senders.end()
    assert senders.given_up == 0
    await system.database.close()
    await system.database.open()
    await system.until_quiet()
    await in_the_log(system, senders.acknowledged)
    await system.check(await system.count("SELECT count(*) FROM delivery_key"), nodes=2)


async def test_redis_killed_and_back_under_load(
    fragile: tuple[System, EmbeddedPostgres, EmbeddedRedis],
) -> None:
    system, _, server = fragile
    await system.apply(chain(system.record, "one", "two"))
    await system.ingest()
    system.relay()
    system.worker()
    senders = Senders(system, count=4)
    await senders.until(50)
    await asyncio.to_thread(server.kill)
    await senders.until(150)  # ingest needs no Redis to accept
    await asyncio.to_thread(server.start)
    await senders.end()
    assert senders.refused == []
    await system.until_quiet()
    await in_the_log(system, senders.acknowledged)
    await system.check(len(senders.acknowledged), nodes=2)


async def test_work_is_done_while_redis_is_away(fragile: tuple[System, EmbeddedPostgres, EmbeddedRedis]) -> None:
    """No doorbell reaches anybody: the worker looks by itself."""
    system, _, server = fragile
    await system.apply(chain(system.record, "one", "two"))
    await system.ingest()
    await system.worker().says("worker.started")
    await asyncio.to_thread(server.kill)
    senders = Senders(system, count=4)
    await senders.until(50)
    await senders.end()
    assert senders.refused == []
    await system.until_quiet()
    await system.check(len(senders.acknowledged), nodes=2)
