"""`make bench-memory`: what each process holds after 10,000 runs, and after 100,000.

Webhooks are posted by 16 connections to ingest; a worker carries out a run of three nodes for each. Resident memory is
read when all is done and has been quiet for five seconds. What grows with the number of runs is a leak: the goal is at
most 10 % between the two.

    python -m tests.bench.memory [--small]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from tests.bench.generator import generate
from tests.bench.ingest import payload, signature
from tests.bench.runs import WORKER, WORKFLOW, finished
from tests.bench.stand import Stand, free_port, publish, stand, until_ready

QUIET = 5.0
"""Seconds without work before memory is read."""


def resident(pid: int) -> int:
    """Bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


async def post(made: Stand, port: int, total: int) -> None:
    """Posts until there are `total` runs, and all have ended."""
    body, until = payload(), time.monotonic() + 900
    async with made.database() as database:
        while await database.fetchval("SELECT count(*) FROM delivery_key") < total:
            await generate(port, "/in/bench", body, signature(body), 16, 1.0)
        posted = await database.fetchval("SELECT count(*) FROM delivery_key")
        while await finished(database) < posted:
            if time.monotonic() > until:
                raise SystemExit(f"expected {posted} runs to end within 900 s, got {await finished(database)}")
            await asyncio.sleep(0.5)
    await asyncio.sleep(QUIET)


async def main(counts: tuple[int, int]) -> None:
    read: dict[str, list[int]] = {}
    with stand() as made:
        await made.season()
        await made.fresh_database("memory")
        await made.apply(WORKFLOW)
        port = free_port()
        processes = {
            "ingest": made.headrace("ingest", "ingest", "--port", str(port)),
            "worker": made.headrace("worker", "worker", "--queue", "webhook", "--queue", "default", more=WORKER),
            "relay": made.headrace("relay", "relay"),
        }
        await until_ready(port, processes["ingest"])
        for count in counts:
            await post(made, port, count)
            for name, process in processes.items():
                read.setdefault(name, []).append(resident(process.pid))
    figures: dict[str, Any] = {"runs": counts}
    figures |= {f"{name}_bytes": sizes for name, sizes in read.items()}
    figures["most_ratio"] = max(after / before for before, after in read.values())
    rows = [
        (name, f"{before / (1 << 20):.1f}", f"{after / (1 << 20):.1f}", f"{after / before:.3f}")
        for name, (before, after) in read.items()
    ]
    few, many = counts
    publish("memory", "resident memory, MB", ("process", f"{few:,} runs", f"{many:,} runs", "ratio"), rows, figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    asyncio.run(main((2_000, 10_000) if options.small else (10_000, 100_000)))
