"""`make bench-ingest`: what one ingest process acknowledges a second, beside two yardsticks in the same run.

    headrace            the product: `headrace ingest`, verified, event + dedup key + work item, fsync on
    noop                the same handler, storing nothing: the ceiling that HTTP and the signature leave
    insert per request  the usual way: a Litestar route and one SQLAlchemy insert per request, the same signature check

64 connections, an 8 KB GitHub payload with its signature, a new delivery id each time. The generator is wrk where it is
installed, else a small one of our own, which is slower; the table says which. Rounds are interleaved; medians are kept.

    python -m tests.bench.ingest [--seconds 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import re
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.bench.generator import generate
from tests.bench.stand import SECRET, Stand, free_port, publish, stand, until_ready

CONNECTIONS = 64
VARIANTS = ("headrace", "noop", "insert_per_request")
WRK = """
math.randomseed(os.time() + tonumber(tostring({{}}):sub(8), 16) % 1000000)
local thread = math.random(1000000000)
local n = 0
wrk.method = "POST"
wrk.body = io.open("{body}", "rb"):read("*a")
wrk.headers["content-type"] = "application/json"
wrk.headers["x-github-event"] = "push"
wrk.headers["x-hub-signature-256"] = "{signature}"
request = function()
  n = n + 1
  wrk.headers["x-github-delivery"] = thread .. "-" .. n
  return wrk.format(nil, "/in/bench")
end
done = function(summary, latency)
  local errors = summary.errors
  local failed = errors.status + errors.read + errors.write + errors.timeout + errors.connect
  local p50, p99 = latency:percentile(50), latency:percentile(99)
  io.write(string.format("RESULT %d %d %d %d\\n", summary.requests, failed, p50, p99))
end
"""


def payload() -> bytes:
    """8 KB in GitHub's form."""
    commits = [
        {
            "id": hashlib.sha1(str(n).encode(), usedforsecurity=False).hexdigest(),
            "message": f"Turn wheel {n}",
            "added": [f"wheel/{n}.py"],
            "author": {"name": "Miller", "email": f"miller{n}@octo-mill.example"},
            "timestamp": "2026-11-23T10:00:00Z",
        }
        for n in range(35)
    ]
    body = json.dumps(
        {"ref": "refs/heads/main", "repository": {"full_name": "octo-mill/waterwheel"}, "commits": commits}
    )
    return body.encode().ljust(8192)[:8192]


def signature(body: bytes) -> str:
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


async def wrk(script: Path, port: int, seconds: int) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}",
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    match = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", output)
    duration = re.search(r"requests in ([\d.]+)s", output)
    if match is None or duration is None:
        raise SystemExit(f"wrk said nothing that could be read:\n{output}")
    requests, errors, p50, p99 = (int(value) for value in match.groups())
    if errors:
        raise SystemExit(f"{errors} of {requests} requests failed:\n{output}")
    return {"rps": requests / float(duration[1]), "p50_s": p50 / 1e6, "p99_s": p99 / 1e6}


def serve(made: Stand, variant: str) -> tuple[int, Any]:
    port = free_port()
    if variant == "headrace":
        return port, made.headrace(variant, "ingest", "--port", str(port))
    return port, made.spawn(variant, sys.executable, "-m", "tests.bench.ingest_yardsticks", variant, str(port))


async def main(seconds: int, rounds: int) -> None:
    body = payload()
    results: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    with stand() as made:
        await made.season()
        await made.fresh_database("bench")
        await made.apply(None)
        body_file, script = made.scratch / "body.json", made.scratch / "post.lua"
        body_file.write_bytes(body)
        script.write_text(WRK.format(body=body_file, signature=signature(body)))
        servers = {variant: serve(made, variant) for variant in VARIANTS}
        for port, process in servers.values():
            await until_ready(port, process)
        for number in range(rounds + 1):
            for variant, (port, _) in servers.items():
                length = seconds if number else 2  # the first round warms up and is not kept
                if shutil.which("wrk"):
                    result = await wrk(script, port, length)
                else:
                    result = await generate(port, "/in/bench", body, signature(body), CONNECTIONS, length)
                if number:
                    results[variant].append(result)
                    print(f"round {number} {variant:20} {result['rps']:8.0f}/s")
        async with made.database() as database:
            stored = await database.fetchval("SELECT count(*) FROM event WHERE type = 'delivery.received'")
            items = await database.fetchval("SELECT count(*) FROM work_item")
        print(f"in the log: {stored}, in the work list: {items}")
        if not stored or stored != items:
            raise SystemExit("the log and the work list do not agree")
    medians = {
        v: {key: statistics.median(r[key] for r in results[v]) for key in ("rps", "p50_s", "p99_s")} for v in VARIANTS
    }
    ours, noop, usual = (medians[variant]["rps"] for variant in VARIANTS)
    figures: dict[str, Any] = {
        f"{variant}_{key}": round(value, 6) for variant in VARIANTS for key, value in medians[variant].items()
    }
    figures |= {
        "of_noop": round(ours / noop, 3),
        "times_insert_per_request": round(ours / usual, 2),
        "stored": stored,
    }
    figures["generator"] = "wrk" if shutil.which("wrk") else "own"
    publish(
        "ingest",
        f"one ingest process, {CONNECTIONS} connections, 8 KB, signed; generator: {figures['generator']}",
        ("variant", "requests/s", "p50 ms", "p99 ms", "of noop", "times insert"),
        [
            (
                v.replace("_", " "),
                f"{m['rps']:,.0f}",
                f"{m['p50_s'] * 1e3:.1f}",
                f"{m['p99_s'] * 1e3:.1f}",
                f"{m['rps'] / noop:.0%}",
                f"{m['rps'] / usual:.2f}",
            )
            for v, m in medians.items()
        ],
        figures,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    asyncio.run(main(options.seconds, options.rounds))
