"""What watching costs: `make bench-live`. Result: `.headrace/bench/live.json` and a table.

Two measurements, on servers of their own:

- Traffic: `RUNS` watched runs with `EVENTS` nodes each, told by our way (wake-ups) and by the plain way, in which every
  commit publishes the run's whole state, as JSON, on the run's channel, to one subscriber. Bytes are Redis's own count
  (`INFO`) of what came and went, the looks at its memory included; memory is the most above what it used before.
- Delay: `WATCHERS` watchers of one process, a tenth of them of each of ten runs: from before the commit of an event
  until a watcher has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from uuid import UUID

import msgspec
import redis.asyncio as redis

from events.database import Database
from events.runs import Keep, NewEvent, RunAppend, RunWriter
from executor.console.hub import Hub
from executor.engine.live import Announcer, connect
from executor.workflow.facts import NodeCompleted, RunStarted, encode
from executor.workflow.state import RunState, evolve
from tests.bench.stand import Stand, percentile, publish, stand
from tests.rows import start_run

RUNS = 50
EVENTS = 20
WATCHERS = 1_000
ROUNDS = 30
OUTPUT = {"id": 12345, "name": "somebody", "items": [{"sku": f"sku-{n}", "count": n} for n in range(20)]}
"""About half a kilobyte, as a node would answer."""


class Carried:
    """A run that is carried on."""

    def __init__(self, id: UUID) -> None:
        self.id = id
        self.state: RunState = evolve(None, RunStarted("w", "00", id, 0.0))

    def step(self) -> RunAppend:
        fact = NodeCompleted(f"node_{self.state.version}", 1, OUTPUT, 0.01)
        self.state = evolve(self.state, fact)
        event = NewEvent(self.state.version, *encode(fact))
        return RunAppend(self.id, 1, self.state.version, "running", (event,), Keep(), None)


@contextlib.asynccontextmanager
async def working(made: Stand) -> AsyncIterator[tuple[RunWriter, Database, list[Carried]]]:
    async with made.database("ingest") as ingest, made.database("worker") as worker, made.database() as operator:
        runs = [Carried(await start_run(ingest, worker)) for _ in range(RUNS)]
        yield RunWriter(worker, owner="me", lease=300.0), operator, runs


class Meter:
    """What Redis counts."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    async def start(self) -> None:
        await self._client.config_resetstat()
        self._memory = int((await self._client.info("memory"))["used_memory"])
        self._peak = self._memory
        self._before = await self._bytes()

    async def look(self) -> None:
        self._peak = max(self._peak, int((await self._client.info("memory"))["used_memory"]))

    async def stop(self) -> tuple[int, int]:
        """(bytes that came and went, most bytes of memory above the first)."""
        return await self._bytes() - self._before, self._peak - self._memory

    async def _bytes(self) -> int:
        stats = await self._client.info("stats")
        return int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])


async def ours(made: Stand, url: str, meter: Meter) -> tuple[int, int]:
    announcer, keeping = Announcer(url), []
    async with working(made) as (writer, operator, runs):
        writer.wrote = announcer.committed
        hub = Hub(operator, url)
        keeping = [asyncio.create_task(announcer.keep()), asyncio.create_task(hub.keep())]
        await asyncio.sleep(1)
        await meter.start()
        watching = [asyncio.create_task(_until(hub.run(run.id, 0), EVENTS)) for run in runs]
        await asyncio.sleep(1)
        for _ in range(EVENTS):
            for run in runs:  # a commit each, as runs that are not in step have
                await writer.append([run.step()])
            await meter.look()
        await asyncio.gather(*watching)
        result = await meter.stop()
        for task in keeping:
            task.cancel()
        await asyncio.wait(keeping)
    await announcer.close()
    return result


async def plain(made: Stand, url: str, meter: Meter) -> tuple[int, int]:
    async with working(made) as (writer, _, runs), connect(url) as client, client.pubsub() as subscription:
        await meter.start()
        await subscription.subscribe(*(f"run:{run.id}" for run in runs))

        async def listen() -> None:
            got = 0
            while got < RUNS * EVENTS:
                message = await subscription.get_message(timeout=10.0)
                got += message is not None and message["type"] == "message"

        listening = asyncio.create_task(listen())
        for _ in range(EVENTS):
            for run in runs:
                await writer.append([run.step()])
                await client.publish(f"run:{run.id}", msgspec.json.encode(run.state))
            await meter.look()
        await listening
        return await meter.stop()


async def _until(messages: AsyncGenerator[bytes, None], version: int) -> list[float]:
    """When each message came, until the version was there."""
    times = []
    async with aclosing(messages):
        async for data in messages:
            times.append(time.perf_counter())
            if msgspec.json.decode(data)["version"] >= version:
                break
    return times


async def delays(made: Stand, url: str) -> tuple[list[float], list[float]]:
    """Seconds until each watcher had an event; and, for each event, until the last had it."""
    announcer = Announcer(url)
    seen: list[float] = []
    last: list[float] = []
    async with working(made) as (writer, operator, runs):
        writer.wrote = announcer.committed
        hub = Hub(operator, url)
        keeping = [asyncio.create_task(announcer.keep()), asyncio.create_task(hub.keep())]
        few = runs[:10]
        watching = [hub.run(few[n % 10].id, 0) for n in range(WATCHERS)]
        waiting = [asyncio.create_task(_next(messages)) for messages in watching]
        while hub.watchers < WATCHERS:
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await writer.append([run.step() for run in few])
            times = [at - began for at in await asyncio.gather(*waiting)]
            seen += times
            last.append(max(times))
            waiting = [asyncio.create_task(_next(messages)) for messages in watching]
            await asyncio.sleep(0.1)
        for task in [*waiting, *keeping]:
            task.cancel()
        await asyncio.wait([*waiting, *keeping])
    await announcer.close()
    return seen, last


async def _next(messages: AsyncGenerator[bytes, None]) -> float:
    while True:
        if msgspec.json.decode(await anext(messages))["facts"]:
            return time.perf_counter()


async def measure(made: Stand) -> None:
    await made.fresh_database("live")
    url = made.environment["HEADRACE_REDIS_URL"]
    async with connect(url) as client:
        our_bytes, our_memory = await ours(made, url, Meter(client))
        plain_bytes, plain_memory = await plain(made, url, Meter(client))
    seen, last = await delays(made, url)
    events = RUNS * EVENTS
    figures = {
        "events": events,
        "our_bytes": our_bytes,
        "plain_bytes": plain_bytes,
        "our_memory": our_memory,
        "plain_memory": plain_memory,
        "times_less": plain_bytes / our_bytes,
        "watchers": WATCHERS,
        "delay_p50_s": percentile(seen, 0.5),
        "delay_p99_s": percentile(seen, 0.99),
    }
    rows = [
        ("Redis traffic an event, ours", f"{our_bytes / events:,.0f} bytes"),
        ("Redis traffic an event, the plain way", f"{plain_bytes / events:,.0f} bytes"),
        ("Redis memory, ours and the plain way", f"{our_memory / 1024:,.0f} and {plain_memory / 1024:,.0f} KB"),
        ("times less traffic", f"{plain_bytes / our_bytes:.1f}"),
        (f"delay of {WATCHERS} watchers, p50", f"{percentile(seen, 0.5) * 1e3:.1f} ms"),
        (f"delay of {WATCHERS} watchers, p99", f"{percentile(seen, 0.99) * 1e3:.1f} ms"),
        ("the last of them, p50", f"{percentile(last, 0.5) * 1e3:.1f} ms"),
    ]
    publish("live", "Watching", ["what", "figure"], rows, figures)


def main() -> None:
    with stand() as made:
        asyncio.run(measure(made))


if __name__ == "__main__":
    main()
