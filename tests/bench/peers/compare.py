"""DBOS and Restate beside us, in one run: three durable no-op steps, with 1 and with 64 in flight.

Promises: one after another on the same machine and disk, in turns, each alone while it is measured; both as their
defaults make them, durably; DBOS in the same PostgreSQL server. What each side's times include:

    Headrace  POST of a signed webhook, its append to the log, routing, three steps, and word from PostgreSQL that the
              run's end is committed
              (drained: from the claim of a delivery that is in the log, the nearest to what DBOS is asked)
    Restate   POST to its ingress until that answers: its log, calls of the service by HTTP/2, three steps
    DBOS      the call of a workflow in the process that runs it: no HTTP, no process between
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import httpx2
import msgspec

from tests.bench.closed import Connection, closed
from tests.bench.stand import Stand, free_port, stop

HERE = Path(__file__).parent
PYTHON = HERE / ".venv" / "bin"
IN_FLIGHT = 64
PATIENCE = 60.0


class Figures(msgspec.Struct, frozen=True):
    """Runs a second with 64 in flight; seconds from start to end with one. `drain_rps`: ours without the way in."""

    rps: float
    p50_s: float
    drain_rps: float | None = None


Measure = Callable[[Stand, str], Awaitable[Figures]]


async def compare(made: Stand, ours: Measure, rounds: int) -> dict[str, list[Figures]]:
    """Measures everybody in turns.

    Args:
        ours: measures Headrace; gets a name for its database.
    """
    measures: dict[str, Measure] = {"headrace": ours, "dbos": dbos, "restate": restate}
    found: dict[str, list[Figures]] = {name: [] for name in measures}
    for number in range(rounds):
        for name, measure in measures.items():
            figures = await measure(made, f"{name}{number}")
            found[name].append(figures)
            print(f"{name}: {figures.rps:,.0f} runs/s, one in flight {figures.p50_s * 1e3:.1f} ms")
    return found


def medians(found: list[Figures]) -> Figures:
    """Of all rounds."""
    drains = [figures.drain_rps for figures in found if figures.drain_rps is not None]
    return Figures(
        median(figures.rps for figures in found),
        median(figures.p50_s for figures in found),
        median(drains) if drains else None,
    )


async def dbos(made: Stand, name: str) -> Figures:
    """One round of DBOS, in a fresh database of the same server."""
    url = await made.empty_database(name)
    log = open(made.scratch / f"{name}.log", "ab")  # noqa: SIM115  # the child's
    command = [str(PYTHON / "python"), str(HERE / "dbos_app.py"), url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    log.close()
    try:
        await asyncio.to_thread(_ask, process, 8, 100)  # warms up
        one = await asyncio.to_thread(_ask, process, 1, 100)
        many = await asyncio.to_thread(_ask, process, IN_FLIGHT, 1000)
    finally:
        process.kill()
        process.wait()
    return Figures(many["rps"], one["p50_s"])


def _ask(process: subprocess.Popen[str], in_flight: int, count: int) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{in_flight} {count}\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line.startswith("{"):
        raise SystemExit(f"dbos_app.py: expected a line of JSON, got {line!r}")
    answer: dict[str, float] = json.loads(line)
    return answer


async def restate(made: Stand, name: str) -> Figures:
    """One round of Restate, with a fresh data directory."""
    async with _restate(made, name) as port:

        async def call(connection: Connection, _number: int) -> str:
            await connection.post("/bench/three", "", b"")
            return ""

        one = await closed(port, 1, 200, call, warm=100)
        many = await closed(port, IN_FLIGHT, 2000, call, warm=200)
    return Figures(many.rps, one.percentile(0.5))


@asynccontextmanager
async def _restate(made: Stand, name: str) -> AsyncIterator[int]:
    """A server and a service that it knows; the port of its ingress."""
    ingress, admin, fabric, service = free_port(), free_port(), free_port(), free_port()
    settings = {
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{fabric}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    directory = made.scratch / name
    server = made.spawn(name, str(_server()), "--no-logo", "--base-dir", str(directory), more=settings)
    app = made.spawn(
        f"{name}-app",
        *(str(PYTHON / "hypercorn"), "--bind", f"127.0.0.1:{service}", "restate_app:app"),
        more={"PYTHONPATH": str(HERE)},
    )
    try:
        async with httpx2.AsyncClient(timeout=5) as client:
            known = {"uri": f"http://127.0.0.1:{service}"}
            await _until_200(lambda: client.post(f"http://127.0.0.1:{admin}/deployments", json=known))
            await _until_200(lambda: client.post(f"http://127.0.0.1:{ingress}/bench/three"))
        yield ingress
    finally:
        stop(app)
        stop(server)
        shutil.rmtree(directory, ignore_errors=True)


async def _until_200(ask: Callable[[], Awaitable[httpx2.Response]]) -> None:
    deadline = time.monotonic() + PATIENCE
    seen = ""
    while time.monotonic() < deadline:
        try:
            response = await ask()
            if response.is_success:
                return
            seen = response.text
        except httpx2.TransportError as error:
            seen = repr(error)
        await asyncio.sleep(0.2)
    raise SystemExit(f"Restate: expected it to be ready within {PATIENCE:g} s, got {seen[:300]}")


def _server() -> Path:
    """The server itself; npm's wrapper would start another process for it."""
    found = sorted((HERE / "node" / "node_modules" / "@restatedev").glob("restate-server-*/bin/restate-server"))
    if not found or not os.access(found[0], os.X_OK):
        raise SystemExit("expected the Restate server of tests/bench/peers/node, got none: say make bench-runs PEERS=1")
    return found[0]
