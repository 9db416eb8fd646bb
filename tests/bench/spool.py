"""`make bench-spool`: ingest while PostgreSQL is away, and on its way back.

    direct       one ingest process with a spool, PostgreSQL there: what the spool must not cost
    spooling     PostgreSQL stopped: acknowledged from the spool alone
    drain        PostgreSQL back, no senders: rows a second from the spool to the log
    under load   PostgreSQL back while senders go on as fast as they are answered: it must come to its end

64 connections, 8 KB, signed, as `tests.bench.ingest`. Then, without HTTP, the spool's file beside a plain file that is
appended to and fdatasync'ed: the yardstick for the choice of SQLite.

    python -m tests.bench.spool [--seconds 8]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path
from typing import Any

import httpx2

from events.ids import dedup_key, uuid7
from events.types import Receipt
from ingest.spool_rows import encode
from ingest.spool_store import Store
from tests.bench.ingest import CONNECTIONS, WRK, payload, signature, wrk
from tests.bench.stand import Stand, free_port, percentile, publish, stand, until_ready

FILE_SECONDS = 2.0


async def main(seconds: int) -> None:
    body = payload()
    figures: dict[str, Any] = {}
    with stand() as made:
        await made.season()
        await made.fresh_database("bench")
        await made.apply(None)
        body_file, script = made.scratch / "body.json", made.scratch / "post.lua"
        body_file.write_bytes(body)
        script.write_text(WRK.format(body=body_file, signature=signature(body)))
        port = free_port()
        spool = {"HEADRACE_SPOOL_DIR": str(made.scratch / "spool"), "HEADRACE_SPOOL_LIMIT": "8GB"}
        process = made.headrace("spooling", "ingest", "--port", str(port), more=spool)
        await until_ready(port, process)
        await wrk(script, port, 2)
        figures["direct"] = await wrk(script, port, seconds)
        async with Away(made, port) as away:
            await wrk(script, port, 1)  # the first ones notice
            figures["spooling"] = await wrk(script, port, seconds)
            rows = await away.rows()
        figures["drain"] = {"rows": rows} | await away.drained(rows)
        async with Away(made, port) as away:
            await wrk(script, port, seconds)
            rows = await away.rows()
        load = asyncio.create_task(wrk(script, port, 4 * seconds))
        figures["under_load"] = {"rows": rows} | await away.drained(rows)
        figures["under_load"] |= await load
        async with made.database() as database:
            stored = await database.fetchval("SELECT count(*) FROM event WHERE type = 'delivery.received'")
            keys = await database.fetchval("SELECT count(*) FROM delivery_key")
        print(f"in the log: {stored}, keys: {keys}; spool: {await away.rows()} rows")
        for rows in (1, 64, 500):
            figures[f"sqlite_{rows}"] = sqlite(made.scratch / f"sqlite{rows}", body, rows)
            figures[f"file_{rows}"] = file(made.scratch / f"file{rows}", body, rows)
    show(figures)


class Away:
    """PostgreSQL, stopped on entry and started on exit."""

    def __init__(self, made: Stand, port: int) -> None:
        self._made = made
        self._client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}")

    async def __aenter__(self) -> Away:
        await asyncio.to_thread(self._made._postgres.stop, "immediate")
        return self

    async def __aexit__(self, *failure: object) -> None:
        await asyncio.to_thread(self._made._postgres.start)

    async def ready(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self._client.get("/health/ready")).json()
        return found

    async def rows(self) -> int:
        return int((await self.ready()).get("rows", 0))

    async def drained(self, rows: int, patience: float = 300.0) -> dict[str, float]:
        """Waits for the way to be direct again. Seconds since the first row left the spool."""
        began: float | None = None
        deadline = time.monotonic() + patience
        most = rows
        while (state := await self.ready())["status"] != "ready":
            now = time.monotonic()
            if now > deadline:
                raise SystemExit(f"expected the spool to be drained within {patience:g} s, got {state}")
            most = max(most, state.get("rows", 0))
            if began is None and state.get("rows", 0) < rows:
                began = now
            await asyncio.sleep(0.02)
        return {"seconds": time.monotonic() - (began or time.monotonic()), "most": most}


def receipts(body: bytes, count: int) -> list[Receipt]:
    now = time.time()
    return [
        Receipt(uuid7(now), 1, 1, dedup_key(os.urandom(8)), '{"source":"bench"}', b"a: b" * 120, body)
        for _ in range(count)
    ]


def sqlite(path: Path, body: bytes, rows: int) -> dict[str, float]:
    store = Store(path)
    try:
        return repeated(lambda batch: store.insert(batch, [encode(receipt) for receipt in batch]), body, rows)
    finally:
        store.close()


def file(path: Path, body: bytes, rows: int) -> dict[str, float]:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def append(batch: list[Receipt]) -> None:
        os.write(descriptor, b"".join(encode(receipt) for receipt in batch))
        os.fdatasync(descriptor)

    try:
        return repeated(append, body, rows)
    finally:
        os.close(descriptor)


def repeated(commit: Any, body: bytes, rows: int) -> dict[str, float]:
    """Rows/s and seconds per commit of `rows`, the receipts made beforehand."""
    took: list[float] = []
    while sum(took) < FILE_SECONDS:
        batch = receipts(body, rows)
        began = time.perf_counter()
        commit(batch)
        took.append(time.perf_counter() - began)
    return {"rps": rows * len(took) / sum(took), "p50_s": percentile(took, 0.5), "p99_s": percentile(took, 0.99)}


def show(figures: dict[str, Any]) -> None:
    def row(name: str, key: str) -> tuple[str, ...]:
        figure = figures[key]
        return name, f"{figure['rps']:,.0f}", f"{figure['p50_s'] * 1e3:.2f}", f"{figure['p99_s'] * 1e3:.2f}"

    drain, load = figures["drain"], figures["under_load"]
    drain["rps"] = drain["rows"] / drain["seconds"]
    drained = (f"drain of {drain['rows']:,} rows, no senders: {drain['seconds']:.1f} s", f"{drain['rps']:,.0f}", "", "")
    meanwhile = (
        f"acknowledged while {load['rows']:,} rows drained in {load['seconds']:.1f} s (at most {load['most']:,})"
    )
    publish(
        "spool",
        f"one ingest process with a spool, {CONNECTIONS} connections, 8 KB, signed; and its file without HTTP",
        ("what", "a second", "p50 ms", "p99 ms"),
        [
            row("direct: PostgreSQL is there", "direct"),
            row("spooling: PostgreSQL is away", "spooling"),
            drained,
            row(f"{meanwhile}, then direct", "under_load"),
            *[
                row(f"{what}, {rows} a commit", f"{key}_{rows}")
                for rows in (1, 64, 500)
                for what, key in (("the spool's SQLite", "sqlite"), ("a file, append and fdatasync", "file"))
            ],
        ],
        figures,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=8)
    options = parser.parse_args()
    asyncio.run(main(options.seconds))
