"""Workers die, freeze and come back; nothing is lost, nothing is done twice that was done."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import pytest

from tests.system import System, chain, until

pytestmark = pytest.mark.anyio

POINTS = [
    "engine.claimed@1",
    "engine.routed@1",
    "engine.route_committed@1",
    "node.before:one@1",
    "node.after:one@1",
    "run.commit.before@1",
    "run.commit.after@1",
    "node.before:two@1",
    "run.commit.before@2",
    "run.commit.after@2",
    "node.after:three@1",
    "run.commit.before@3",
    "run.commit.after@3",
]


async def test_a_worker_killed_between_any_two_commits_is_taken_over(system: System) -> None:
    await system.apply(chain(system.record, "one", "two", "three"))
    await system.ingest()
    system.relay()
    system.environment["HEADRACE_MAX_RECOVERIES"] = "100"  # each worker may also die of what an earlier one left
    for point in POINTS:
        worker = system.worker(faults=f"{point}=kill")
        await system.deliver(id=point)
        await worker.dies()
    system.worker()
    await system.until_quiet()
    await system.check(len(POINTS), nodes=3)
    calls = Counter((run, node) for run, node, *_ in system.recorded())
    keys = {(run, node, key) for run, node, _, key in system.recorded()}
    assert len(keys) == len(calls) == 3 * len(POINTS), "a node's key is the same on every attempt"
    assert sum(calls.values()) <= 3 * len(POINTS) + len(POINTS), "only the node in flight at a death runs again"


async def test_what_completed_before_the_death_is_never_run_again(system: System) -> None:
    await system.apply(chain(system.record, "one", "two", "three"))
    await system.ingest()
    system.relay()
    worker = system.worker(faults="run.commit.after@2=kill")
    await system.deliver()
    await worker.dies()
    system.worker()
    await system.until_quiet()
    assert [node for _, node, *_ in system.recorded()] == ["one", "two", "three"]


async def test_a_zombies_late_write_changes_nothing(system: System) -> None:
    """It freezes just before its commit, past its lease; another finishes the run; then it wakes."""
    await system.apply(chain(system.record, "one", "two"))
    await system.ingest()
    system.relay()
    zombie = system.worker(faults="run.commit.before@2=stop")
    await zombie.says("worker.started")
    await system.deliver()
    await zombie.stops()
    other = system.worker()
    await system.until_quiet()
    before = await system.database.fetch("SELECT * FROM event ORDER BY position")
    zombie.send(signal.SIGCONT)
    await zombie.says("engine.lease_lost", "lease.lost")  # the append or the renewal may notice first
    assert await system.database.fetch("SELECT * FROM event ORDER BY position") == before
    await system.check(1, nodes=2)
    other.end()
    await system.deliver()  # and it is of use again
    await system.until_quiet()
    await system.check(2, nodes=2)


async def test_a_zombie_begins_nothing_that_another_has_done(system: System) -> None:
    """It freezes between two commits, past its lease; another finishes the run; then it wakes, and calls nobody."""
    await system.apply(chain(system.record, "one", "two"))
    await system.ingest()
    system.relay()
    zombie = system.worker(faults="engine.route_committed@1=stop")
    await zombie.says("worker.started")
    await system.deliver()
    await zombie.stops()
    other = system.worker()
    await system.until_quiet()
    zombie.send(signal.SIGCONT)
    await zombie.says("engine.lease_lost", "lease.lost")
    other.end()
    await system.deliver()
    await system.until_quiet()
    await system.check(2, nodes=2)
    assert [node for _, node, *_ in system.recorded()] == ["one", "two"] * 2


async def test_a_redelivered_doorbell_does_nothing_twice(system: System) -> None:
    import redis  # noqa: PLC0415

    from events.doorbell import broker_for, ring_now  # noqa: PLC0415

    await system.apply(chain(system.record, "one"))
    await system.ingest()
    broker = broker_for(system.environment["HEADRACE_REDIS_URL"], [])
    for number in range(20):
        await system.deliver(id=str(number))
        for _ in range(5):
            ring_now(broker, "webhook", enough=1000)
    system.worker()
    await system.until_quiet()

    async def silent() -> bool:
        return not broker.client.llen("dramatiq:webhook")

    await until(silent, "all doorbells were heard")
    await system.check(20, nodes=1)
    assert len(system.recorded()) == 20
    assert isinstance(broker.client, redis.Redis)


async def test_what_kills_its_worker_each_time_is_parked_and_its_neighbours_are_not(system: System) -> None:
    deadly = chain(system.record, "only", uses="test.deadly", deadly="${{ event.body.deadly }}")
    await system.apply(deadly)
    await system.ingest()
    system.relay()
    bodies = [b'{"deadly": false}'] * 4 + [b'{"deadly": true}'] + [b'{"deadly": false}'] * 4
    for number, body in enumerate(bodies):
        await system.deliver(body, id=str(number))
    limits = {"HEADRACE_MAX_RECOVERIES": "3"}
    deaths = 0
    worker = system.worker(more=limits)
    while await system.count("SELECT count(*) FROM work_item"):
        if await worker._dead():
            deaths += 1
            worker = system.worker(more=limits)
        await asyncio.sleep(0.02)
    assert deaths == 3
    rows = await system.database.fetch("SELECT status, count(*) FROM run GROUP BY status ORDER BY status")
    assert [tuple(row) for row in rows] == [("completed", 8), ("parked", 1)]
    error = await system.database.fetchval("SELECT error FROM run WHERE status = 'parked'")
    assert "3 times without progress" in error


async def test_a_delivery_that_kills_whoever_routes_it_is_parked(system: System) -> None:
    await system.apply(chain(system.record, "one"))
    await system.ingest()
    system.relay()
    id = await system.deliver()
    for _ in range(2):
        worker = system.worker(faults="engine.routed=kill", more={"HEADRACE_MAX_RECOVERIES": "2"})
        await worker.dies()
    system.worker(more={"HEADRACE_MAX_RECOVERIES": "2"})
    await system.until_quiet()
    types = await system.database.fetch("SELECT type FROM event WHERE stream_id = $1 ORDER BY version", id)
    assert [row["type"] for row in types] == ["delivery.received", "delivery.parked"]


async def test_an_error_of_our_own_is_tried_again_later(system: System) -> None:
    await system.apply(chain(system.record, "one"))
    await system.ingest()
    system.relay()
    worker = system.worker(faults="run.commit.before@1=raise")
    await system.deliver()
    await worker.says("engine.failed")
    await system.until_quiet()
    await system.check(1, nodes=1)


async def test_sigterm_gives_work_back_at_once(system: System) -> None:
    """The lease is long here: only a drain can hand the run over this soon."""
    system.environment["HEADRACE_LEASE"] = "600"
    gate = system.directory / "gate"
    await system.apply(chain(system.record, "wait", "after", uses="test.until_file", file=str(gate)))
    await system.ingest()
    system.relay()
    worker = system.worker(more={"HEADRACE_DRAIN_GRACE": "0.2"})
    await system.deliver()

    async def running() -> bool:
        return len(system.recorded()) == 1

    await until(running, "the node runs")
    os.kill(worker.pid, signal.SIGTERM)
    system.worker()

    async def again() -> bool:
        return len(system.recorded()) == 2

    await until(again, "the node runs on the other worker")
    gate.touch()
    await system.until_quiet()
    await system.check(1, nodes=2)
    assert await system.count("SELECT max(attempt) FROM work_item UNION SELECT 0") == 0
