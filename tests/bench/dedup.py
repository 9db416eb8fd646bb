"""`make bench-dedup`: what ingest acknowledges a second with millions of events and dedup keys in the log already.

Two databases on one server, each with an `ingest` process of its own: one as empty as a new installation, one that is
loaded in bulk, level by level. At each level, after a checkpoint, both are measured in turns, and what counts is the
loaded one's share of the empty one's median in the same run. The load is `tests.bench.ingest`'s: 64 connections, 8 KB,
signed, a new delivery id each time.

    python -m tests.bench.dedup [--seconds 8] [--rounds 5] [--levels 0,1,2,5]     (levels in millions of events)

There are twice as many keys as events: keys outlive the events that retention drops. Bodies are as long as an 8 KB
GitHub payload is when it is compressed.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import time
from typing import Any

import asyncpg

from tests.bench.generator import generate
from tests.bench.ingest import CONNECTIONS, WRK, payload, signature, wrk
from tests.bench.stand import Stand, free_port, publish, stand, until_ready

MILLION = 1_000_000
CHUNK = 250_000

# Ids as they would have come in over the last three days, in time order, as the log has them.
_EVENTS = """
INSERT INTO event (stream_id, version, workspace_id, source_id, type, metadata, headers, codec, body)
SELECT (lpad(to_hex(((extract(epoch FROM now()) - 259200 * (1 - n::float8 / $3)) * 1000)::bigint), 12, '0')
        || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
  0, 1, 1, 'delivery.received', '{"source": "bench", "event_type": "push", "method": "POST", "size": 8192}',
  decode(repeat('61', 300), 'hex'), 1, $4
FROM generate_series($1::bigint, $2::bigint - 1) n
"""
_KEYS = """
INSERT INTO delivery_key (source_id, key, stream_id)
SELECT 1, decode(md5('key ' || n), 'hex'), gen_random_uuid() FROM generate_series($1::bigint, $2::bigint - 1) n
"""


async def load(url: str, done: int, until: int, total: int) -> None:
    """Fills the log from `done` to `until` events, and twice as many keys."""
    connection = await asyncpg.connect(url)
    began = time.monotonic()
    try:
        await connection.execute("SET synchronous_commit = off")
        for first in range(done, until, CHUNK):
            last = min(first + CHUNK, until)
            await connection.execute(_EVENTS, first, last, float(total), bytes(range(256)) * 5)
            await connection.execute(_KEYS, 2 * first, 2 * last)
        await connection.execute("ANALYZE event, delivery_key")
        await connection.execute("VACUUM delivery_key")
    finally:
        await connection.close()
    if until > done:
        print(f"loaded {until - done:,} events in {time.monotonic() - began:.0f} s")


async def sizes(url: str) -> dict[str, float]:
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow("""
          SELECT (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'event'::regclass),
            (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'delivery_key'::regclass)
        """)
        assert row is not None
        return {"log_gb": float(row[0]) / 2**30, "keys_gb": float(row[1]) / 2**30}
    finally:
        await connection.close()


async def main(seconds: int, rounds: int, levels: list[float]) -> None:
    body = payload()
    rows: list[tuple[str, ...]] = []
    figures: dict[str, Any] = {"levels": []}
    with stand() as made:
        await made.season()
        servers: dict[str, tuple[int, str]] = {}
        for name in ("empty", "loaded"):
            await made.fresh_database(name)
            await made.apply(None)
            port = free_port()
            process = made.headrace(name, "ingest", "--port", str(port))
            await until_ready(port, process)
            servers[name] = (port, made.database_url)
        body_file, script = made.scratch / "body.json", made.scratch / "post.lua"
        body_file.write_bytes(body)
        script.write_text(WRK.format(body=body_file, signature=signature(body)))
        done = 0
        for level in levels:
            events = int(level * MILLION)
            await load(servers["loaded"][1], done, events, int(max(levels) * MILLION) or 1)
            done = events
            medians = await measure(made, servers, script, body, seconds, rounds)
            size = await sizes(servers["loaded"][1])
            share = medians["loaded"]["rps"] / medians["empty"]["rps"]
            figures["levels"].append(
                {"events": events, "keys": 2 * events, "share": round(share, 3), **size, **medians}
            )
            rows.append(
                (
                    f"{events:,}",
                    f"{2 * events:,}",
                    f"{size['log_gb']:.1f} + {size['keys_gb']:.1f}",
                    f"{medians['empty']['rps']:,.0f}",
                    f"{medians['loaded']['rps']:,.0f}",
                    f"{share:.0%}",
                    f"{medians['empty']['p99_s'] * 1e3:.1f}",
                    f"{medians['loaded']['p99_s'] * 1e3:.1f}",
                )
            )
    figures["generator"] = "wrk" if shutil.which("wrk") else "own"
    publish(
        "dedup",
        f"ingest beside a log that holds much already; {CONNECTIONS} connections, 8 KB, signed; medians of {rounds}",
        ("events", "keys", "GB", "empty /s", "loaded /s", "share", "p99 ms", "p99 ms"),
        rows,
        figures,
    )


async def measure(
    made: Stand, servers: dict[str, tuple[int, str]], script: Any, body: bytes, seconds: int, rounds: int
) -> dict[str, dict[str, float]]:
    results: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for number in range(rounds + 1):
        for name, (port, url) in servers.items():
            admin = await asyncpg.connect(url)
            if number == 0:
                await admin.execute("CHECKPOINT")
            await admin.execute("TRUNCATE work_item")  # nobody works here; the list must not grow over the rounds
            await admin.close()
            length = seconds if number else 2  # the first round warms up and is not kept
            if shutil.which("wrk"):
                result = await wrk(script, port, length)
            else:
                result = await generate(port, "/in/bench", body, signature(body), CONNECTIONS, length)
            if number:
                results[name].append(result)
                print(f"round {number} {name:8} {result['rps']:8.0f}/s")
    return {
        name: {key: statistics.median(one[key] for one in kept) for key in ("rps", "p50_s", "p99_s")}
        for name, kept in results.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--levels", type=lambda text: [float(part) for part in text.split(",")], default=[0, 1, 2, 5])
    options = parser.parse_args()
    asyncio.run(main(options.seconds, options.rounds, options.levels))
