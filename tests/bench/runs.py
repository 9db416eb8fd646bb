"""`make bench-runs`: a workflow of three effectful no-op nodes, each committed before the next begins, in one worker.

    drain      deliveries that were all acknowledged before the worker started: runs/s from first start to last end
    one        one in flight: from POST until PostgreSQL has told of the run's end, and from POST to the first node
    many       the same with 64 in flight: runs/s
    sustained  runs/s while webhooks keep coming as fast as ingest acknowledges them (ingest, worker, PostgreSQL and the
               generator share this machine's cores)
    profile    the same drain under cProfile: where the engine's time goes

    peers      `one` and `many` beside DBOS and Restate, in turns (`tests.bench.peers.compare`)

Times come from one clock: the client's before it posts, the node's own, and the database's, all on this machine.

    python -m tests.bench.runs [--deliveries 20000] [--rounds 3] [--profile] [--peers [--only-peers]]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from events.database import Database
from tests.bench.closed import Connection, Done, closed, ends
from tests.bench.generator import generate
from tests.bench.ingest import payload, signature
from tests.bench.peers.compare import IN_FLIGHT, Figures, compare, medians
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


async def drain(
    made: Stand, name: str, count: int, profile: str | None = None, more: Mapping[str, str] = {}
) -> dict[str, Any]:
    await made.fresh_database(name)
    await made.apply(WORKFLOW)
    stored = await fill(made, count)
    if profile is None:
        worker = made.headrace(f"worker-{name}", "worker", "--queue", "webhook", more=WORKER | dict(more))
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


class Loops(msgspec.Struct, frozen=True):
    """The closed loops of one round."""

    one: Done
    to_first: list[float]
    many: Done


async def closed_loops(made: Stand, name: str) -> Loops:
    """One in flight, then 64."""
    await made.fresh_database(name)
    await made.apply(WORKFLOW)
    port = free_port()
    ingest = made.headrace(f"ingest-{name}", "ingest", "--port", str(port))
    worker = made.headrace(f"worker-{name}", "worker", "--queue", "webhook", more=WORKER)
    await until_ready(port, ingest)
    body = payload()
    headers = f"content-type: application/json\r\nx-github-event: push\r\nx-hub-signature-256: {signature(body)}\r\n"
    async with made.database() as database, ends(made.database_url) as ended:

        async def call(connection: Connection, number: int) -> str:
            answer = await connection.post("/in/bench", f"{headers}x-github-delivery: {number}\r\n", body)
            delivery = str(msgspec.json.decode(answer)["id"])
            await ended.of(delivery)
            return delivery

        one = await closed(port, 1, 300, call, warm=50)
        firsts = {
            str(row[0]): float(msgspec.json.decode(row[1])["output"])
            for row in await database.fetch(
                "SELECT r.delivery_id, e.body FROM run r JOIN event e ON e.stream_id = r.id AND e.version = 1"
            )
        }
        many = await closed(port, IN_FLIGHT, 10_000, call, warm=1000)
    stop(worker)
    stop(ingest)
    return Loops(one, [firsts[delivery] - began for delivery, began, _ in one.calls], many)


async def ours(made: Stand, name: str) -> Figures:
    """One round beside the peers."""
    loops = await closed_loops(made, name)
    drained = await drain(made, f"{name}_drain", 8000, more={"HEADRACE_CONCURRENCY": str(IN_FLIGHT)})
    return Figures(loops.many.rps, loops.one.percentile(0.5), drained["rps"])


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


async def main(options: argparse.Namespace) -> None:
    with stand() as made:
        await made.season()
        figures: dict[str, Any] = {}
        rows: list[tuple[str, str]] = []
        if not options.only_peers:
            await alone(made, options, figures, rows)
        if options.peers:
            beside(await compare(made, ours, options.rounds), figures, rows)
    title = "runs of three effectful nodes, each committed before the next begins; one worker process"
    publish("peers" if options.only_peers else "runs", title, ("what", "figure"), rows, figures)


async def alone(made: Stand, options: argparse.Namespace, figures: dict[str, Any], rows: list[tuple[str, str]]) -> None:
    """What needs no peer."""
    drains = [await drain(made, f"drain{number}", options.deliveries) for number in range(options.rounds)]
    for result in drains:
        print(f"drain: {result['runs']} runs in {result['seconds']:.2f} s: {result['rps']:,.0f}/s")
    best = sorted(drains, key=lambda result: result["rps"])[len(drains) // 2]
    loops = await closed_loops(made, "loops")
    flow = await sustained(made, 10)
    if options.profile:
        path = str(made.scratch / "profile.txt")
        await drain(made, "profiled", options.deliveries // 4, path)
        print(Path(path).read_text())
    figures |= {
        "headrace_rps": round(best["rps"], 1),
        "drained": best["runs"],
        "p50_s": round(loops.one.percentile(0.5), 6),
        "p99_s": round(loops.one.percentile(0.99), 6),
        "first_node_p50_s": round(percentile(loops.to_first, 0.5), 6),
        "first_node_p99_s": round(percentile(loops.to_first, 0.99), 6),
        "closed_64_rps": round(loops.many.rps, 1),
        "closed_64_p50_s": round(loops.many.percentile(0.5), 6),
        "sustained_rps": round(flow["rps"], 1),
        "sustained_posted_rps": round(flow["posted_rps"], 1),
        "sustained_post_p99_s": round(flow["post_p99_s"], 6),
    }
    rows += [
        (
            f"drain of {best['runs']:,} acknowledged deliveries (median of {options.rounds})",
            f"{best['rps']:,.0f} runs/s",
        ),
        ("one in flight, POST to run finished, p50", f"{figures['p50_s'] * 1e3:.1f} ms"),
        ("one in flight, POST to run finished, p99", f"{figures['p99_s'] * 1e3:.1f} ms"),
        ("idle, POST to first node, p50", f"{figures['first_node_p50_s'] * 1e3:.1f} ms"),
        ("idle, POST to first node, p99", f"{figures['first_node_p99_s'] * 1e3:.1f} ms"),
        ("64 in flight, POST to run finished", f"{loops.many.rps:,.0f} runs/s"),
        ("sustained while webhooks come", f"{flow['rps']:,.0f} runs/s"),
        ("… webhooks acknowledged meanwhile", f"{flow['posted_rps']:,.0f}/s"),
    ]


def beside(found: dict[str, list[Figures]], figures: dict[str, Any], rows: list[tuple[str, str]]) -> None:
    """Medians of everybody's rounds, and how many times theirs ours is: from POST, and drained."""
    of = {name: medians(rounds) for name, rounds in found.items()}
    own = of.pop("headrace")
    figures |= {
        "headrace_64_rps": round(own.rps, 1),
        "headrace_64_drain_rps": round(own.drain_rps or 0.0, 1),
        "headrace_p50_s": round(own.p50_s, 6),
    }
    rows += [
        (f"headrace: {IN_FLIGHT} in flight, from POST", f"{own.rps:,.0f} runs/s"),
        (f"headrace: {IN_FLIGHT} in flight, deliveries in the log already", f"{own.drain_rps:,.0f} runs/s"),
        ("headrace: one in flight, from POST, p50", f"{own.p50_s * 1e3:.1f} ms"),
    ]
    for name, theirs in of.items():
        figures[f"{name}_rps"], figures[f"{name}_p50_s"] = round(theirs.rps, 1), round(theirs.p50_s, 6)
        times = f"ours: {own.rps / theirs.rps:.1f} times, drained {(own.drain_rps or 0.0) / theirs.rps:.1f}"
        rows.append((f"{name}: {IN_FLIGHT} in flight ({times})", f"{theirs.rps:,.0f} runs/s"))
        rows.append((f"{name}: one in flight, p50", f"{theirs.p50_s * 1e3:.1f} ms"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--peers", action="store_true", help="beside DBOS and Restate; say make bench-runs PEERS=1")
    parser.add_argument("--only-peers", action="store_true", help="with --peers, nothing else; into peers.json")
    asyncio.run(main(parser.parse_args()))
