"""The limit of a workspace over several worker processes, one of which dies, while Redis forgets everything."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from events import costs, workspaces
from events.costs import Limit
from tests.system import System, until

pytestmark = pytest.mark.anyio

LIMIT = 3
RUNS = 45


def most_at_once(lines: list[list[str]], ends: dict[int, float]) -> int:
    """How many calls overlapped at most. `ends`: when processes died, by pid; their open calls ended then."""
    changes: list[tuple[float, int]] = []
    open_: Counter[tuple[str, str]] = Counter()
    for what, run, pid, at in lines:
        changes.append((float(at), 1 if what == "begin" else -1))
        open_[run, pid] += 1 if what == "begin" else -1
    changes += [(ends[int(pid)], -1) for (_, pid), count in open_.items() for _ in range(count)]
    busy = most = 0
    for _, change in sorted(changes):
        busy += change
        most = max(most, busy)
    assert busy == 0
    return most


async def test_a_workspaces_runs_are_never_more_than_its_limit(system: System, redis_urls: tuple[str, str]) -> None:
    small = await workspaces.add(system.database, "small", "free", LIMIT)
    path = system.directory / "spans.txt"
    nodes = {"one": {"uses": "test.span", "with": {"path": str(path), "seconds": 0.05}}}
    await system.apply({"workflow": "spans", "on": [{"source": "hub"}], "nodes": nodes}, workspace=small)
    await system.ingest()
    system.relay()
    workers = [system.worker() for _ in range(3)]
    await asyncio.gather(*[system.deliver(b'{"n": %d}' % n, id=str(n)) for n in range(RUNS)])

    def lines() -> list[list[str]]:
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    async def going() -> bool:
        begun = Counter((run, pid) for what, run, pid, _ in lines() if what == "begin")
        begun.subtract((run, pid) for what, run, pid, _ in lines() if what == "end")
        return len(lines()) > 20 and any(begun.values())

    await until(going, "runs are under way")
    busy = next(int(pid) for what, _, pid, _ in reversed(lines()) if what == "begin")
    os.kill(busy, signal.SIGKILL)
    died = {busy: time.time()}
    assert busy in {worker.pid for worker in workers}
    for url in redis_urls:
        async with redis.asyncio.from_url(url) as client:
            await client.flushall()
    await system.until_quiet()
    assert await system.count("SELECT count(*) FROM run WHERE status = 'completed'") == RUNS
    assert most_at_once(lines(), died) == LIMIT, "never more, and not fewer where more wait"
    assert len({pid for _, _, pid, _ in lines()}) > 1, "several processes took part"
    assert await system.count("SELECT count(*) FROM work_item WHERE slot") == 0


def calling(path: Path, seconds: float, reserve: float) -> dict[str, Any]:
    node = {"uses": "test.span", "with": {"path": str(path), "seconds": seconds}}
    limited = {**node, "limit": {"class": "span", "reserve": reserve}}
    return {"workflow": "spans", "on": [{"source": "hub"}], "nodes": {"one": limited}}


async def start(system: System, workers: int, runs: int) -> None:
    await system.ingest()
    system.relay()
    for _ in range(workers):
        system.worker()
    await asyncio.gather(*[system.deliver(b'{"n": %d}' % n, id=str(n)) for n in range(runs)])
    await system.until_quiet()


async def test_calls_of_a_class_stay_within_their_places_and_their_budget(system: System) -> None:
    """Three workers share three places; what is put off is no attempt, and what is not paid for fails."""
    await costs.change(system.database, 1, "span", Limit(concurrent=LIMIT, daily=30.0))
    path = system.directory / "spans.txt"
    await system.apply(calling(path, 0.05, 2.0))
    await start(system, 3, 20)
    assert await system.count("SELECT count(*) FROM run WHERE status = 'completed'") == 15
    errors = await system.database.fetch("SELECT error FROM run WHERE status = 'failed'")
    assert len(errors) == 5
    assert all("budget: the budget of this workspace for span today: " in row[0] for row in errors)
    assert most_at_once([line.split() for line in path.read_text().splitlines()], {}) <= LIMIT
    assert await system.count("SELECT count(*) FROM event WHERE type = 'node.deferred'") > 0
    bodies = await system.database.fetch("SELECT convert_from(body, 'UTF8') FROM event WHERE type = 'node.completed'")
    assert {json.loads(row[0])["attempt"] for row in bodies} == {1}
    (used,) = await costs.usage(system.database, 0.0)
    assert (used.cls, used.calls, used.cost) == ("span", 15, 30.0)


async def test_calls_of_a_class_come_no_faster_than_their_rate(system: System) -> None:
    """Over three workers: a burst of five, then one each 0.1 s; each is told once when it may come."""
    rate, per = 5, 0.5
    await costs.change(system.database, 1, "span", Limit(requests=rate, per=per))
    path = system.directory / "spans.txt"
    await system.apply(calling(path, 0.0, 0.0))
    await start(system, 3, 20)
    assert await system.count("SELECT count(*) FROM run WHERE status = 'completed'") == 20
    granted = await system.database.fetch("SELECT extract(epoch FROM at)::float8 FROM cost_entry ORDER BY at")
    begun = sorted(float(line.split()[3]) for line in path.read_text().splitlines() if line.startswith("begin"))
    assert len(granted) == len(begun) == 20
    assert begun[-1] - begun[0] >= (20 - rate) * per / rate - 0.1, "15 of them had to wait for their turns"
    assert await system.count("SELECT count(*) FROM event WHERE type = 'node.deferred'") <= 20
