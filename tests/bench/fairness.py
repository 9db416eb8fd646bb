"""`make bench-fairness`: how long ten runs of one workspace wait behind ten thousand of another.

One worker holds 20 runs at once; each run is a node that takes 20 ms. Deliveries are in the log before anything counts:

    alone    ten deliveries of workspace B, nothing else
    behind   the same after 10,000 deliveries of workspace A, which the worker has begun to work off

A wait is from the delivery's arrival until its run has ended, both by the database's clock. Rounds in turns; medians.

    python -m tests.bench.fairness [--small] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from typing import Any

import msgspec

from events import workspaces
from events.definitions import Applying
from events.deliveries import DeliveryWriter
from events.ids import dedup_key, uuid7
from events.secretbox import SecretBox
from events.types import Receipt
from executor.workflow.graph import content_hash
from ingest.parsing import parse_source
from tests.bench.stand import SECRET, SECRET_KEY, Stand, percentile, publish, stand, stop

WORKER = {"HEADRACE_NODE_MODULES": "tests.bench.nodes"}
CONCURRENCY = 20
SECONDS = 0.02
FEW = 10
_WAITS = """
SELECT extract(epoch FROM r.ended_at - e.recorded_at)::float8 FROM run r
JOIN event e ON e.stream_id = r.delivery_id AND e.version = 0 WHERE r.workspace_id = $1 AND r.ended_at IS NOT NULL
"""
_numbers = itertools.count()


async def apply(made: Stand, workspace: int) -> None:
    slug = f"bench-{workspace}"
    workflow = {
        "workflow": "pause",
        "on": [{"source": slug}],
        "nodes": {"pause": {"uses": "bench.pause", "with": {"seconds": SECONDS}}},
    }
    definition = parse_source({"source": slug, "preset": "github", "secrets": [SECRET]})
    async with made.database() as database, Applying(database, workspace) as applying:
        id = await applying.source_id(slug)
        sealed = SecretBox(SECRET_KEY).seal(SECRET.encode(), f"source/{id}")
        await applying.source(id, slug, msgspec.to_builtins(definition), [sealed], same_secrets=False)
        await applying.workflow("pause", content_hash(workflow), workflow)


async def fill(made: Stand, workspace: int, count: int) -> None:
    metadata = msgspec.json.encode({"source": f"bench-{workspace}", "event_type": "push"}).decode()
    async with made.database("ingest") as database:
        writer = DeliveryWriter(database)
        for first in range(0, count, 500):
            keys = [dedup_key(str(next(_numbers)).encode()) for _ in range(first, min(first + 500, count))]
            await writer.write([Receipt(uuid7(time.time()), workspace, 1, key, metadata, b"", b"{}") for key in keys])


async def measure(made: Stand, name: str, before: int) -> tuple[list[float], float]:
    """The waits of the few, and how long the many took that were there before (0 where there were none)."""
    await made.fresh_database(name)
    async with made.database() as database:
        other = await workspaces.add(database, "other", "unlimited")
        await apply(made, 1)
        await apply(made, other)
        await fill(made, 1, before)
        arguments = ("worker", "--queue", "webhook", "--queue", "default", "--concurrency", str(CONCURRENCY))
        worker = made.headrace(name, *arguments, more=WORKER)
        relay = made.headrace(f"{name}-relay", "relay")
        began = time.monotonic()
        wanted = min(before, 100)
        while await database.fetchval("SELECT count(*) FROM run WHERE ended_at IS NOT NULL") < wanted:
            await asyncio.sleep(0.05)
        if not before:
            await asyncio.sleep(3.0)  # it has started, and found nothing to do
        await fill(made, other, FEW)
        made.ring("webhook")
        while len(rows := await database.fetch(_WAITS, other)) < FEW:
            if time.monotonic() - began > 240:
                raise SystemExit(f"expected {FEW} runs to end within 240 s, got {len(rows)}")
            await asyncio.sleep(0.05)
        left = await database.fetchval("SELECT count(*) FROM work_item")
        if before and not left:
            raise SystemExit("expected the many to be there still, got none; give more")
        for process in (worker, relay):
            await asyncio.to_thread(stop, process)
    return [row[0] for row in rows], before * SECONDS / CONCURRENCY


async def main(before: int, rounds: int) -> None:
    found: dict[str, list[float]] = {"alone": [], "behind": []}
    with stand() as made:
        await made.season()
        for turn in range(rounds):
            for name, count in (("alone", 0), ("behind", before)):
                waits, _ = await measure(made, f"{name}_{turn}", count)
                found[name] += waits
    alone, behind = statistics.median(found["alone"]), statistics.median(found["behind"])
    figures: dict[str, Any] = {
        "before": before,
        "alone_p50_s": alone,
        "alone_max_s": max(found["alone"]),
        "behind_p50_s": behind,
        "behind_p90_s": percentile(found["behind"], 0.9),
        "behind_max_s": max(found["behind"]),
        "in_line_s": before * SECONDS / CONCURRENCY,
    }
    rows = [(name, f"{statistics.median(waits) * 1e3:.0f}", f"{max(waits) * 1e3:.0f}") for name, waits in found.items()]
    rows.append(("in line behind all of them, at best", f"{figures['in_line_s'] * 1e3:.0f}", ""))
    publish("fairness", f"ten runs of 20 ms, behind {before:,}", ("", "p50 ms", "max ms"), rows, figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    asyncio.run(main(2_000 if options.small else 10_000, options.rounds))
