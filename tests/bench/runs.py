"""`make bench-runs`: a workflow of three effectful no-op nodes, each committed before the next begins, in one worker.

    drain      deliveries that were all acknowledged before the worker started: runs/s from first start to last end
    one        one in flight: from POST to run finished, and from POST to the first node
    sustained  runs/s while webhooks keep coming as fast as ingest acknowledges them (ingest, worker, PostgreSQL and the
               generator share this machine's cores)
    profile    the same drain under cProfile: where the engine's time goes

Times come from one clock: the client's before it posts, the node's own, and the database's, all on this machine.

    python -m tests.bench.runs [--deliveries 20000] [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from events.database import Database
from tests.bench.generator import generate
from tests.bench.ingest import payload, signature
from tests.bench.stand import Stand, free_port, percentile, publish, stand, stop, until_ready

WORKFLOW = {
    "workflow": "three-steps",
    "on": [{"source": "bench"}],
    "queue": "webhook",
    "nodes": {
        "first": {"uses": "bench.noop"},
        "second": {"uses": "bench.noop", "needs": ["first"]},
        "third": {"uses": "bench.noop", "needs": ["second"]},
    },
}
WORKER = {"HEADRACE_NODE_MODULES": "tests.bench.nodes"}


async def finished(database: Database) -> int:
    return int(await database.fetchval("SELECT count(*) FROM run WHERE status = 'completed'"))


async def until_finished(database: Database, count: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while (done := await finished(database)) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"expected {count} runs to finish within {patience:g} s, got {done}")
        await asyncio.sleep(0.25)


async def fill(made: Stand, count: int) -> int:
    """Posts until at least `count` deliveries are acknowledged; how many are in the log."""
    port = free_port()
    ingest = made.headrace("ingest", "ingest", "--port", str(port))
    await until_ready(port, ingest)
    body = payload()
    async with made.database() as database:
        while (stored := await database.fetchval("SELECT count(*) FROM work_item")) < count:
            await generate(port, "/in/bench", body, signature(body), 64, 0.5)
    stop(ingest)
    return int(stored)


async def drain(made: Stand, name: str, count: int, profile: str | None = None) -> dict[str, Any]:
    await made.fresh_database(name)
    await made.apply(WORKFLOW)
    stored = await fill(made, count)
    if profile is None:
        worker = made.headrace(f"worker-{name}", "worker", "--queue", "webhook", more=WORKER)
    else:
        worker = made.spawn(f"worker-{name}", sys.executable, "-m", "tests.bench.profiled_worker", profile, more=WORKER)
    async with made.database() as database:
        await until_finished(database, stored, 120)
        seconds = await database.fetchval("SELECT extract(epoch FROM max(ended_at) - min(started_at))::float8 FROM run")
        facts = await database.fetchval("SELECT count(*) FROM event WHERE type = 'node.completed'")
        left = await database.fetchval("SELECT count(*) FROM work_item")
    stop(worker)
    if (facts, left) != (3 * stored, 0):
        raise SystemExit(f"expected {3 * stored} completed nodes and no work left, got {facts} and {left}")
    return {"runs": stored, "seconds": seconds, "rps": stored / seconds}


async def one_in_flight(made: Stand, count: int) -> dict[str, float]:
    await made.fresh_database("one")
    await made.apply(WORKFLOW)
    port = free_port()
    ingest = made.headrace("ingest", "ingest", "--port", str(port))
    worker = made.headrace("worker-one", "worker", "--queue", "webhook", more=WORKER)
    await until_ready(port, ingest)
    body = payload()
    to_end, to_first = [], []
    async with made.database() as database, httpx2.AsyncClient() as client:
        for number in range(count + 20):  # the first twenty warm up
            began = time.time()
            headers = {
                "x-github-event": "push",
                "x-hub-signature-256": signature(body),
                "x-github-delivery": f"one-{number}",
            }
            response = await client.post(f"http://127.0.0.1:{port}/in/bench", content=body, headers=headers)
            response.raise_for_status()
            row = await _ended(database, response.json()["id"])
            if number >= 20:
                to_end.append(row[0] - began)
                to_first.append(msgspec.json.decode(row[1])["output"] - began)
    stop(worker)
    stop(ingest)
    return {
        "p50_s": percentile(to_end, 0.5),
        "p99_s": percentile(to_end, 0.99),
        "first_node_p50_s": percentile(to_first, 0.5),
        "first_node_p99_s": percentile(to_first, 0.99),
    }


async def _ended(database: Database, delivery: str) -> Any:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        rows = await database.fetch(
            "SELECT extract(epoch FROM r.ended_at)::float8, e.body "
            "FROM run r JOIN event e ON e.stream_id = r.id AND e.version = 1 "
            "WHERE r.delivery_id = $1 AND r.ended_at IS NOT NULL",
            delivery,
        )
        if rows:
            return rows[0]
        await asyncio.sleep(0.005)
    raise SystemExit(f"delivery {delivery}: expected its run to end within 20 s")


async def sustained(made: Stand, seconds: float) -> dict[str, float]:
    await made.fresh_database("sustained")
    await made.apply(WORKFLOW)
    port = free_port()
    ingest = made.headrace("ingest", "ingest", "--port", str(port))
    worker = made.headrace("worker-sustained", "worker", "--queue", "webhook", more=WORKER)
    await until_ready(port, ingest)
    body = payload()
    await generate(port, "/in/bench", body, signature(body), 16, 2)
    async with made.database() as database:
        before, began = await finished(database), time.monotonic()
        posted = await generate(port, "/in/bench", body, signature(body), 16, seconds)
        rate = (await finished(database) - before) / (time.monotonic() - began)
        await until_finished(database, int(await database.fetchval("SELECT count(*) FROM delivery_key")), 120)
    stop(worker)
    stop(ingest)
    return {"rps": rate, "posted_rps": posted["rps"], "post_p99_s": posted["p99_s"]}


async def main(deliveries: int, rounds: int, profile: bool) -> None:
    with stand() as made:
        await made.season()
        drains = [await drain(made, f"drain{number}", deliveries) for number in range(rounds)]
        for result in drains:
            print(f"drain: {result['runs']} runs in {result['seconds']:.2f} s: {result['rps']:,.0f}/s")
        best = sorted(drains, key=lambda result: result["rps"])[len(drains) // 2]
        one = await one_in_flight(made, 300)
        flow = await sustained(made, 10)
        if profile:
            path = str(made.scratch / "profile.txt")
            await drain(made, "profiled", deliveries // 4, path)
            print(Path(path).read_text())
    figures = {
        "headrace_rps": round(best["rps"], 1),
        "drained": best["runs"],
        **{key: round(value, 6) for key, value in one.items()},
        "sustained_rps": round(flow["rps"], 1),
        "sustained_posted_rps": round(flow["posted_rps"], 1),
        "sustained_post_p99_s": round(flow["post_p99_s"], 6),
    }
    publish(
        "runs",
        "runs of three effectful nodes, each committed before the next begins; one worker process",
        ("what", "figure"),
        [
            (
                f"drain of {best['runs']:,} acknowledged deliveries (median of {rounds})",
                f"{best['rps']:,.0f} runs/s",
            ),
            ("one in flight, POST to run finished, p50", f"{one['p50_s'] * 1e3:.1f} ms"),
            ("one in flight, POST to run finished, p99", f"{one['p99_s'] * 1e3:.1f} ms"),
            ("idle, POST to first node, p50", f"{one['first_node_p50_s'] * 1e3:.1f} ms"),
            ("idle, POST to first node, p99", f"{one['first_node_p99_s'] * 1e3:.1f} ms"),
            ("sustained while webhooks come", f"{flow['rps']:,.0f} runs/s"),
            ("… webhooks acknowledged meanwhile", f"{flow['posted_rps']:,.0f}/s"),
        ],
        figures,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    asyncio.run(main(options.deliveries, options.rounds, options.profile))
