"""`make bench-curve`: what a run costs as things grow.

    nodes     one worker drains deliveries whose runs have 1, 10 or 100 nodes in a chain, in turns
    tables    the same with runs of three nodes beside 10^3 … 10^6 runs that ended before, in turns with an empty log
    workers   1 and 2 worker processes, in turns
    lanes     the same workflow without a lane, and with a `key` that no two deliveries share, in turns
    length    how long it takes to have the state of a run with 10^2 … 10^5 events: with its snapshot, and without
    sleepers  memory of a worker before and after 10,000 runs went to sleep, and how late they wake

What ended before is copied into the tables, event by event as the engine would have written it; bodies are 2 bytes.

    python -m tests.bench.curve [--small] [--rounds 3] [--only nodes,tables,…]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from events.deliveries import DeliveryWriter
from events.ids import dedup_key, uuid7
from events.types import Receipt
from executor.engine.snapshots import Snapshots
from executor.workflow.facts import ItemEnded, NodeCompleted, NodeMapped, RunFact, RunStarted, encode
from tests.bench.runs import until_finished
from tests.bench.stand import Stand, percentile, publish, stand, stop

WORKER = {"HEADRACE_NODE_MODULES": "tests.bench.nodes"}
COUNTS = (1_000, 10_000, 100_000, 1_000_000)
LENGTHS = (100, 1_000, 10_000, 100_000)
SLEEPERS = 10_000
_numbers = itertools.count()
TAIL = 20
"""Events after the snapshot, in `length`."""

# A run that ended: its delivery's two events and its own five, its head, its dedup key.
_ENDED = """
WITH id AS MATERIALIZED (
  SELECT n, gen_random_uuid() AS d, gen_random_uuid() AS r FROM generate_series($1::int, $2::int) AS n),
v7 AS MATERIALIZED (
  SELECT n, overlay(overlay(d::text placing $3 from 1 for 13) placing '7' from 15 for 1)::uuid AS d,
    overlay(overlay(r::text placing $3 from 1 for 13) placing '7' from 15 for 1)::uuid AS r FROM id),
keys AS (INSERT INTO delivery_key (source_id, key, stream_id) SELECT 1, uuid_send(d), d FROM v7),
received AS (
  INSERT INTO event (stream_id, version, workspace_id, source_id, type, metadata, headers, codec, body)
  SELECT d, 0, 1, 1, 'delivery.received', '{"source": "bench", "event_type": "old"}', '', 0, '{}'::bytea FROM v7),
heads AS (
  INSERT INTO run (id, workspace_id, workflow, workflow_hash, status, version, delivery_id, ended_at)
  SELECT r, 1, 'old', '', 'completed', 4, d, now() FROM v7)
INSERT INTO event (stream_id, version, workspace_id, type, codec, body)
SELECT d, 1, 1, 'delivery.routed', 0, '{}'::bytea FROM v7
UNION ALL SELECT r, version, 1, type, 0, '{}'::bytea FROM v7,
  (VALUES (0, 'run.started'), (1, 'node.completed'), (2, 'node.completed'), (3, 'node.completed'), (4, 'run.completed'))
  AS t(version, type)
"""


def chain(length: int, **more: Any) -> dict[str, Any]:
    names = [f"n{number}" for number in range(length)]
    nodes: dict[str, Any] = {names[0]: {"uses": "bench.noop"}}
    nodes |= {name: {"uses": "bench.noop", "needs": [before]} for before, name in itertools.pairwise(names)}
    return {"workflow": "chain", "on": [{"source": "bench"}], "nodes": nodes} | more


async def fill(made: Stand, count: int, body: Callable[[int], bytes] = lambda number: b"{}") -> None:
    """Appends deliveries as ingest does."""
    metadata = '{"source":"bench","event_type":"push","content_type":"application/json"}'
    async with made.database("ingest") as database:
        writer = DeliveryWriter(database)
        for first in range(0, count, 500):
            await writer.write(
                [
                    Receipt(
                        uuid7(time.time()), 1, 1, dedup_key(str(next(_numbers)).encode()), metadata, b"", body(number)
                    )
                    for number in range(first, min(first + 500, count))
                ]
            )


async def drain(made: Stand, name: str, workflow: dict[str, Any], count: int, workers: int = 1) -> float:
    """Runs a second, from the first start to the last end, on the stand's database."""
    await made.apply(workflow)
    async with made.database() as database:
        before = int(await database.fetchval("SELECT count(*) FROM run WHERE status = 'completed'"))
        began = await database.fetchval("SELECT now()")
        await fill(made, count)
        own = [
            made.headrace(f"{name}-{n}", "worker", "--queue", "webhook", "--queue", "default", more=WORKER)
            for n in range(workers)
        ]
        await until_finished(database, before + count, 300)
        seconds = await database.fetchval(
            "SELECT extract(epoch FROM max(ended_at) - min(started_at))::float8 FROM run WHERE started_at > $1",
            began,
        )
        await asyncio.gather(*[asyncio.to_thread(stop, process) for process in own])
    return count / float(seconds)


async def empty(made: Stand, name: str, workflow: dict[str, Any], count: int, workers: int = 1) -> float:
    """The same on a database of its own."""
    await made.fresh_database(name)
    return await drain(made, name, workflow, count, workers)


async def nodes(made: Stand, rounds: int, scale: int) -> dict[str, float]:
    sizes = {1: 6000 // scale, 10: 1500 // scale, 100: 200 // scale}
    found: dict[int, list[float]] = {length: [] for length in sizes}
    for turn in range(rounds):
        for length, count in sizes.items():
            found[length].append(await empty(made, f"nodes_{length}_{turn}", chain(length), count))
    return {str(length): statistics.median(rates) for length, rates in found.items()}


async def tables(made: Stand, rounds: int, scale: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    await made.fresh_database("tables")
    url, have, count = made.database_url, 0, 4000 // scale
    await made.apply(chain(3))
    for want in [each // scale for each in COUNTS]:
        await ended(url, have, want)
        have = want
        full, bare = [], []
        for turn in range(rounds):
            made.database_url = url
            full.append(await drain(made, f"tables_{want}_{turn}", chain(3), count))
            bare.append(await empty(made, f"bare_{want}_{turn}", chain(3), count))
        rates = statistics.median(full), statistics.median(bare)
        found[str(want)] = {"rps": rates[0], "empty_rps": rates[1]}
    return found


async def ended(url: str, first: int, last: int) -> None:
    """Copies runs that ended, up to `last` of them."""
    admin = await asyncpg.connect(url)
    prefix = str(uuid7(time.time()))[:13]
    for start in range(first, last, 20_000):
        await admin.execute(
            _ENDED.replace("$1", str(start + 1))
            .replace("$2", str(min(start + 20_000, last)))
            .replace("$3", f"'{prefix}'")
        )
    await admin.execute("ANALYZE")
    await admin.close()


async def pairs(
    made: Stand, name: str, variants: Sequence[tuple[str, dict[str, Any], int]], rounds: int, count: int
) -> dict[str, float]:
    found: dict[str, list[float]] = {variant: [] for variant, _, _ in variants}
    for turn in range(rounds):
        for variant, workflow, workers in variants:
            found[variant].append(await empty(made, f"{name}_{variant}_{turn}", workflow, count, workers))
    return {variant: statistics.median(rates) for variant, rates in found.items()}


async def length(made: Stand, rounds: int, scale: int) -> dict[str, Any]:
    """The state of a run whose `map` has gone through very many items."""
    await made.fresh_database("length")
    found: dict[str, Any] = {}
    async with made.database("worker") as database:
        snapshots = Snapshots(made.environment["HEADRACE_STATE_REDIS_URL"], database)
        nowhere = Snapshots("redis://127.0.0.1:1/0", database)
        for events in sorted({max(each // scale, LENGTHS[0]) for each in LENGTHS}):
            id = uuid7(time.time())
            facts = story(events)
            await copy(made.database_url, id, facts[:-TAIL])
            state = await nowhere.load(id)
            assert state is not None
            await snapshots.save(id, state)
            await copy(made.database_url, id, facts[-TAIL:], len(facts) - TAIL)
            times = {"with_s": await timed(snapshots, id, rounds), "without_s": await timed(nowhere, id, rounds)}
            found[str(events)] = times
        await snapshots.close()
        await nowhere.close()
    return found


def story(events: int) -> list[RunFact]:
    """A run of about that many events, in the middle of a map."""
    items = events // 2
    facts: list[RunFact] = [RunStarted("w", "00" * 32, uuid7(time.time()), 1.0), NodeMapped("m", items + 1)]
    for index in range(items):
        facts += [NodeCompleted(f"m[{index}].a", 1, {"n": index}), ItemEnded("m", index, {"n": index})]
    return facts


async def copy(url: str, id: UUID, facts: Sequence[RunFact], first: int = 0) -> None:
    admin = await asyncpg.connect(url)
    encoded = [encode(fact) for fact in facts]
    await admin.execute(
        "INSERT INTO event (stream_id, version, workspace_id, type, codec, body) "
        "SELECT $1, $2 + n - 1, 1, type, 0, body "
        "FROM unnest($3::text[], $4::bytea[]) WITH ORDINALITY AS t(type, body, n)",
        id,
        first,
        [type for type, _ in encoded],
        [body for _, body in encoded],
    )
    await admin.close()


async def timed(snapshots: Snapshots, id: UUID, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        assert await snapshots.load(id) is not None
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def sleepers(made: Stand, scale: int) -> dict[str, float]:
    """Runs that sleep until a moment of their own, 200 of them in each second."""
    count = SLEEPERS // scale
    await made.fresh_database("sleepers")
    nodes = {"nap": {"uses": "wait.timer", "with": {"until": "${{ event.body.at }}"}}}
    await made.apply({"workflow": "sleeps", "on": [{"source": "bench"}], "nodes": nodes})
    worker = made.headrace("sleepers", "worker", "--queue", "webhook", more=WORKER)
    relay = made.headrace("sleepers-relay", "relay")
    at = time.time() + 25 + count / 1000
    await asyncio.sleep(3)
    before = memory(worker.pid)
    await fill(made, count, lambda number: msgspec.json.encode({"at": at + number / 200}))
    async with made.database() as database:
        while await database.fetchval("SELECT count(*) FROM run WHERE status = 'waiting'") < count:
            if time.time() > at:
                raise SystemExit("expected all runs to sleep before the first wakes")
            await asyncio.sleep(0.25)
        asleep = memory(worker.pid)
        await until_finished(database, count, 60 + count / 200)
        late = [
            float(row[0])
            for row in await database.fetch(
                "SELECT extract(epoch FROM r.ended_at)::float8 - "
                "(convert_from(e.body, 'UTF8')::json->>'at')::float8 FROM run r JOIN event e "
                "ON e.stream_id = r.delivery_id AND e.version = 0"
            )
        ]
    stop(worker)
    stop(relay)
    return {
        "memory_before_mb": before,
        "memory_asleep_mb": asleep,
        "late_p50_s": percentile(late, 0.5),
        "late_p99_s": percentile(late, 0.99),
        "late_max_s": max(late),
    }


def memory(pid: int) -> float:
    """Resident megabytes of a process and its children."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024 + sum(map(memory, children))


async def main(options: argparse.Namespace) -> None:
    scale = 10 if options.small else 1
    wanted = set(options.only.split(","))
    figures: dict[str, Any] = {}
    rows: list[tuple[str, str]] = []
    with stand() as made:
        await made.season()
        if "nodes" in wanted:
            figures["nodes"] = await nodes(made, options.rounds, scale)
            rows += [
                (f"{n} nodes a run", f"{rps:,.0f} runs/s, {rps * int(n):,.0f} nodes/s")
                for n, rps in figures["nodes"].items()
            ]
        if "tables" in wanted:
            figures["tables"] = await tables(made, options.rounds, scale)
            rows += [
                (
                    f"beside {int(n):,} runs that ended",
                    f"{one['rps']:,.0f} runs/s, {one['rps'] / one['empty_rps']:.0%} of empty",
                )
                for n, one in figures["tables"].items()
            ]
        if "workers" in wanted:
            variants = [(str(count), chain(3), count) for count in (1, 2)]
            figures["workers"] = await pairs(made, "workers", variants, options.rounds, 12_000 // scale)
            rows += [(f"{n} worker process(es)", f"{rps:,.0f} runs/s") for n, rps in figures["workers"].items()]
        if "lanes" in wanted:
            keyed = [("without", chain(3), 1), ("keyed", chain(3, key="event.id"), 1)]
            figures["lanes"] = await pairs(made, "lanes", keyed, options.rounds, 4000 // scale)
            rows += [(f"runs {name} a key each", f"{rps:,.0f} runs/s") for name, rps in figures["lanes"].items()]
        if "length" in wanted:
            figures["length"] = await length(made, 5, scale)
            rows += [
                (
                    f"state of a run of {int(n):,} events",
                    f"{one['with_s'] * 1e3:.1f} ms, without snapshot {one['without_s'] * 1e3:,.0f} ms",
                )
                for n, one in figures["length"].items()
            ]
        if "sleepers" in wanted:
            figures["sleepers"] = one = await sleepers(made, scale)
            rows += [
                (
                    f"memory of a worker, {SLEEPERS // scale:,} runs asleep",
                    f"{one['memory_asleep_mb']:.0f} MB, {one['memory_before_mb']:.0f} MB before",
                ),
                (
                    "they wake late by, p50 / p99 / most",
                    " / ".join(f"{one[k] * 1e3:.0f} ms" for k in ("late_p50_s", "late_p99_s", "late_max_s")),
                ),
            ]
    publish("curve", "what a run costs as things grow", ("what", "figure"), rows, figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a tenth of everything: whether it works")
    parser.add_argument("--only", default="nodes,tables,workers,lanes,length,sleepers")
    asyncio.run(main(parser.parse_args()))
