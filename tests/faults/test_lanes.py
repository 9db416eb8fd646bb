"""Lanes with real processes that die around their commits: one run per key at a time, and nothing lost."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest

from tests.system import System, until

pytestmark = pytest.mark.anyio

ENDED = """
SELECT r.workflow, r.started_at, r.ended_at, r.lane, r.status, convert_from(e.body, 'UTF8') AS body, r.delivery_id
FROM run r JOIN event e ON e.stream_id = r.delivery_id AND e.version = 0 ORDER BY r.started_at
"""
SETTLED = "SELECT convert_from(body, 'UTF8') FROM event WHERE type = 'delivery.settled'"


def workflow(name: str, **more: Any) -> dict[str, Any]:
    """Two steps with a moment of sleep in between."""
    nodes = {
        "first": {"uses": "transform", "with": {"value": {"n": "${{ event.body.n }}"}}},
        "pause": {"uses": "wait.timer", "needs": ["first"], "with": {"for": "20ms"}},
    }
    return {"workflow": name, "on": [{"source": "hub", "type": name}], "nodes": nodes} | more


async def rows(system: System) -> list[Any]:
    return [row for row in await system.database.fetch(ENDED) if row["body"] is not None]


async def test_lanes_keep_their_word_while_their_workers_die(system: System) -> None:
    batched = workflow("batched", batch={"size": 4, "within": "1s"}, output="${{ events.map(e, e.body.n) }}")
    await system.apply(
        workflow("serial", key="event.body.key"),
        batched,
        workflow("bounced", key="event.body.key", debounce={"for": "700ms"}),
        workflow("latest", key={"value": "event.body.key", "then": "skip"}),
    )
    await system.ingest()
    system.relay()

    async def send(name: str, n: int) -> None:
        await system.deliver(json.dumps({"key": n % 3, "n": n}).encode(), event=name, id=f"{name}-{n}")

    for turn, faults in enumerate(("lane.decided@2=kill", "lane.written@2=kill", "engine.route_committed@3=kill")):
        dying = system.worker(faults=faults)
        for n in range(4 * turn, 4 * turn + 4):
            await asyncio.gather(*[send(name, n) for name in ("serial", "batched", "bounced", "latest")])
        await dying.dies()
    system.worker()
    await system.until_quiet()

    async def empty() -> bool:
        return not await system.count("SELECT (SELECT count(*) FROM start_request) + (SELECT count(*) FROM work_item)")

    await until(empty, "nothing waits")
    found = await rows(system)
    assert {row["status"] for row in found} == {"completed"}
    serial = [row for row in found if row["workflow"] == "serial"]
    assert len(serial) == 12
    for lane in {row["lane"] for row in serial}:
        runs = [row for row in serial if row["lane"] == lane]
        assert len(runs) == 4
        assert all(before["ended_at"] <= after["started_at"] for before, after in itertools.pairwise(runs))
    outputs = await system.database.fetch(
        "SELECT convert_from(e.body, 'UTF8') FROM event e JOIN run r ON r.id = e.stream_id "
        "WHERE e.type = 'run.completed' AND r.workflow = 'batched'"
    )
    batches = [json.loads(row[0])["output"] for row in outputs]
    assert sorted(n for batch in batches for n in batch) == list(range(12))
    assert max(map(len, batches)) <= 4
    assert len(batches) < 12
    assert {row["lane"] for row in found if row["workflow"] == "bounced"}
    said = [json.loads(row[0]) for row in await system.database.fetch(SETTLED)]
    assert len(said) == 48
    assert len({(one["item"], one["workflow"]) for one in said}) == 48
    for one in said:
        assert one["run"] or one["reason"]
    for name in ("bounced", "latest"):
        deliveries = {row["delivery_id"] for row in found if row["workflow"] == name}
        assert 3 <= len(deliveries) <= 12
