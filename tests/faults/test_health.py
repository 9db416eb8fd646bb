"""A worker's probes and beats: ready while it can take work, not while its loop is blocked; gone once it drained."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from events.beats import WorkerBeat, queues, workers
from events.types import QUEUES
from tests.system import System, chain, until

pytestmark = pytest.mark.anyio


async def test_a_worker_tells_how_it_is(system: System) -> None:
    redis_url = system.environment["HEADRACE_REDIS_URL"]
    gate = system.directory / "gate"
    await system.apply(chain(system.record, "only", uses="test.block", file=str(gate), seconds=12))
    await system.ingest()
    limits = {"HEADRACE_LEASE": "600", "HEADRACE_LOOP_STALL": "0", "HEADRACE_WORKER_HEALTH_PORT": "0"}
    worker = system.worker(more=limits)
    url = (await worker.says("worker.probe"))["url"]

    async with httpx2.AsyncClient(timeout=5) as client:

        async def ready() -> bool:
            return (await client.get(url)).status_code == 200

        async def blocked() -> bool:
            answer = await client.get(url)
            return answer.status_code == 503 and "the event loop has been blocked" in answer.text

        async def beat() -> WorkerBeat | None:
            found = await asyncio.to_thread(workers, redis_url)
            return found[0] if found else None

        async def holds_one() -> bool:
            told = await beat()
            return told is not None and told.in_flight == 1 and told.last_claim is not None

        await until(ready, "it is ready")
        assert (await client.get(url.replace("ready", "live"))).text == "alive\n"
        assert (await client.get(url.replace("ready", "lost"))).status_code == 404
        await system.deliver()
        await until(holds_one, "its beat says that it holds a run")
        depth = {one.queue: one for one in await queues(system.database, QUEUES)}
        assert (depth["webhook"].held, depth["webhook"].due, depth["default"].held) == (1, 0, 0)
        told = await beat()
        assert told is not None
        assert (told.ready, told.queues, told.capacity, told.draining) == (True, ("webhook",), 256, False)
        assert told.memory > 1 << 20
        gate.touch()
        await until(blocked, "it says that its loop is blocked")
        await until(ready, "it is ready again")
        await system.until_quiet()
        await worker.finishes()
        assert await beat() is None
