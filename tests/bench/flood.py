"""`make bench-flood`: what a person who waits for `POST /run` notices of a flood of webhooks.

One ingest, one console, a worker for `high_priority` and one for `webhook`, a relay, PostgreSQL and the generators
share this machine's cores. Runs are asked for one after the other, with a pause of 30 ms between:

    quiet    nothing else goes on
    flooded  meanwhile webhooks are posted by 64 connections as fast as they are acknowledged, until there are 50,000,
             and worked off

With `--rate` they are posted at that many a second instead. The goal is a p99 that moves by a fifth at most. Rounds in
turns; of each figure the median over the rounds.

    python -m tests.bench.flood [--small] [--rounds 3] [--nice 10] [--rate 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from typing import Any

import httpx2

from events import api_keys
from events.api_keys import Role
from events.definitions import Applying
from executor.workflow.graph import content_hash
from tests.bench.closed import Connection
from tests.bench.generator import generate
from tests.bench.ingest import payload, signature
from tests.bench.stand import Stand, free_port, percentile, publish, stand, until_ready

ENV = {
    "HEADRACE_NODE_MODULES": "tests.bench.nodes",
    "HEADRACE_API_RATE": "100000",
    "HEADRACE_API_WORKSPACE_RATE": "100000",
}
PAUSE = 0.03
_numbers = itertools.count(10**12)
ASKED: dict[str, Any] = {"workflow": "asked", "on": [{"source": "api"}], "nodes": {"one": {"uses": "bench.noop"}}}
FLOOD: dict[str, Any] = {
    "workflow": "flood",
    "on": [{"source": "bench"}],
    "queue": "webhook",
    "nodes": {"one": {"uses": "bench.noop"}},
}


class Asker:
    """Asks for runs one after the other, and waits for each."""

    def __init__(self, port: int, key: str) -> None:
        self._client = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}
        )

    async def once(self) -> float:
        at = time.perf_counter()
        response = await self._client.post("/run?wait=20", json={"workflow": "asked", "input": {}})
        if response.status_code != 200 or response.json()["status"] != "completed":
            raise SystemExit(f"POST /run: expected a run that completed, got {response.status_code} {response.text}")
        return time.perf_counter() - at

    async def until(self, done: asyncio.Event) -> list[float]:
        found = []
        while not done.is_set():
            found.append(await self.once())
            await asyncio.sleep(PAUSE)
        return found

    async def close(self) -> None:
        await self._client.aclose()


async def evenly(port: int, rate: float, seconds: float) -> None:
    """Posts so many a second over eight connections."""
    body = payload()
    headers = f"content-type: application/json\r\nx-github-event: push\r\nx-hub-signature-256: {signature(body)}\r\n"
    until = time.monotonic() + seconds

    async def keep_posting(connection: Connection) -> None:
        due = time.monotonic()
        while due < until:
            due += 8 / rate
            await connection.post("/in/bench", f"{headers}x-github-delivery: {next(_numbers)}\r\n", body)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    connections = [await Connection.open(port) for _ in range(8)]
    await asyncio.gather(*map(keep_posting, connections))
    for connection in connections:
        connection.close()


async def flood(made: Stand, port: int, count: int, rate: float) -> float:
    """Posts `count` webhooks and waits until all were worked off; the seconds."""
    began = time.monotonic()
    body = payload()
    async with made.database() as database:
        arrived = "SELECT count(*) FROM delivery_key WHERE source_id > 0"
        over = "SELECT count(*) FROM run WHERE workflow = 'flood' AND ended_at IS NOT NULL"
        before, ended = await database.fetchval(arrived), await database.fetchval(over)
        while (acknowledged := await database.fetchval(arrived)) < before + count:
            if rate:
                await evenly(port, rate, min(20.0, (before + count - acknowledged) / rate))
            else:
                await generate(port, "/in/bench", body, signature(body), 64, 1.0)
        while await database.fetchval(over) < ended + acknowledged - before:
            await asyncio.sleep(0.5)
    return time.monotonic() - began


async def main(count: int, seconds: float, rounds: int, nice: int, rate: float) -> None:
    quiet: list[list[float]] = []
    flooded: list[list[float]] = []
    lengths: list[float] = []
    with stand() as made:
        await made.season()
        await made.fresh_database("flood")
        await made.apply(FLOOD)
        async with made.database() as database:
            async with Applying(database) as applying:
                await applying.workflow("asked", content_hash(ASKED), ASKED)
            key = await api_keys.add(database, 1, "bench", Role.OPERATOR)
        ports = free_port(), free_port()
        politely = ("nice", "-n", str(nice)) if nice else ()
        headrace = (sys.executable, "-m", "executor.cli.main")
        ingest = made.spawn("ingest", *politely, *headrace, "ingest", "--port", str(ports[0]), more=ENV)
        made.spawn("webhook", *politely, *headrace, "worker", "--queue", "webhook", more=ENV)
        made.headrace("people", "worker", "--queue", "high_priority", more=ENV)
        made.headrace("relay", "relay")
        console = made.headrace("console", "console", "--port", str(ports[1]), more=ENV)
        await until_ready(ports[0], ingest)
        await until_ready(ports[1], console)
        asker = Asker(ports[1], key)
        for _ in range(50):
            await asker.once()
        for _ in range(rounds):
            done = asyncio.Event()
            asyncio.get_running_loop().call_later(seconds, done.set)
            quiet.append(await asker.until(done))
            done = asyncio.Event()
            asking = asyncio.create_task(asker.until(done))
            lengths.append(await flood(made, ports[0], count, rate))
            done.set()
            flooded.append(await asking)
        await asker.close()

    def median(found: list[list[float]], share: float) -> float:
        return statistics.median(percentile(one, share) for one in found)

    figures = {
        "events": count,
        "nice": nice,
        "rate": rate,
        "quiet_p50_s": median(quiet, 0.5),
        "quiet_p99_s": median(quiet, 0.99),
        "flooded_p50_s": median(flooded, 0.5),
        "flooded_p99_s": median(flooded, 0.99),
        "flood_s": statistics.median(lengths),
        "asked": sum(map(len, quiet)) + sum(map(len, flooded)),
    }
    rows = [
        (name, f"{figures[f'{name}_p50_s'] * 1e3:.1f}", f"{figures[f'{name}_p99_s'] * 1e3:.1f}")
        for name in ("quiet", "flooded")
    ]
    publish("flood", f"POST /run while {count:,} webhooks come", ("", "p50 ms", "p99 ms"), rows, figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0)
    options = parser.parse_args()
    count, seconds = (5_000, 5.0) if options.small else (50_000, 20.0)
    asyncio.run(main(count, seconds, options.rounds, options.nice, options.rate))
