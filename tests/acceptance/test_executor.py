"""What the engine does beside calling nodes, through real processes: waits, child runs, maps, signals."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from events import log
from events.inbox import Message, Sent, send
from executor.workflow.signals import Cancel, Decide, Pause, Resume, Signal, encode
from tests.system import System, until

pytestmark = pytest.mark.anyio


async def start(system: System) -> None:
    await system.ingest()
    system.relay()
    await system.worker().says("worker.started")


def workflow(name: str, nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"workflow": name, "on": [{"source": "hub", "type": "start"}], "nodes": nodes, **more}


async def begun(system: System, body: dict[str, Any], id: str = "1") -> UUID:
    """Delivers the event that starts runs and waits for the first one."""
    delivery = await system.deliver(msgspec.json.encode(body), event="start", id=id)
    found: list[log.RunSummary] = []

    async def there() -> bool:
        found[:] = [run for run in await log.runs(system.database, delivery_id=delivery) if run.parent is None]
        return bool(found)

    await until(there, "the run is there")
    return found[0].id


async def ends(system: System, run: UUID) -> log.RunSummary:
    """Waits until a run has ended."""
    head: list[log.RunSummary] = []

    async def ended() -> bool:
        found = await log.run(system.database, run)
        head[:] = [found] if found is not None else []
        return found is not None and found.ended_at is not None

    await until(ended, "the run has ended")
    return head[0]


async def noted(system: System, run: UUID, type: str) -> None:
    """Waits until a run's log has an event of that type."""

    async def there() -> bool:
        return any(event.type == type for event in await log.stream(system.database, run))

    await until(there, f"{type} is in the log")


async def outputs(system: System, run: UUID) -> dict[str, Any]:
    events = await log.of_type(system.database, run, "node.completed")
    facts = [msgspec.json.decode(event.body or b"") for event in events]
    return {fact["node"]: fact.get("output") for fact in facts}


async def say(system: System, run: UUID, signal: Signal) -> None:
    (answer,) = await send(system.database, [Message(run, *encode(signal))])
    assert isinstance(answer, Sent)


async def test_an_awaited_event_ends_its_wait_whether_it_comes_after_or_just_before(system: System) -> None:
    wait = {
        "uses": "wait.event",
        "with": {"source": "hub", "type": "paid", "match": "event.body.order == trigger.body.order", "look_back": "5m"},
    }
    await system.apply(workflow("orders", {"paid": wait}))
    await start(system)
    after = await begun(system, {"order": 7}, "1")
    await noted(system, after, "node.waiting")
    await system.deliver(b'{"order": 8, "sum": 2}', event="paid", id="2")
    await system.deliver(b'{"order": 7, "sum": 1}', event="paid", id="3")
    assert (await ends(system, after)).status == "completed"
    assert (await outputs(system, after))["paid"]["body"] == {"order": 7, "sum": 1}
    before = await begun(system, {"order": 8}, "4")
    assert (await ends(system, before)).status == "completed"
    assert (await outputs(system, before))["paid"]["body"] == {"order": 8, "sum": 2}
    await system.until_quiet()


async def test_a_child_run_gives_its_output_to_its_parent_which_may_be_cached(system: System) -> None:
    child = {
        "workflow": "double",
        "nodes": {"twice": {"uses": "transform", "with": {"value": "${{ input.n * 2 }}"}}},
        "output": "${{ nodes.twice.output }}",
    }
    call = {"uses": "workflow.run", "with": {"workflow": "double", "input": {"n": "${{ event.body.n }}"}}}
    seen = {
        "uses": "transform",
        "needs": ["child"],
        "with": {"value": "${{ nodes.child.output + event.body.n }}"},
        "cache": {"ttl": "10m", "key": "event.body.n"},
    }
    await system.apply(workflow("parent", {"child": call, "seen": seen}), child)
    await start(system)
    for id, use in (("1", "miss"), ("2", "hit")):
        run = await begun(system, {"n": 21}, id)
        assert (await ends(system, run)).status == "completed"
        assert await outputs(system, run) == {"child": 42, "seen": 63}
        *_, last = await log.of_type(system.database, run, "node.completed")
        assert msgspec.json.decode(last.body or b"")["cache"] == use
    await system.until_quiet()


async def test_a_cancellation_ends_a_node_that_runs_and_the_children(system: System) -> None:
    child = {"workflow": "sleepy", "nodes": {"nap": {"uses": "wait.timer", "with": {"for": "1h"}}}}
    nodes = {
        "child": {"uses": "workflow.run", "with": {"workflow": "sleepy"}},
        "long": {"uses": "test.until_file", "with": {"path": str(system.record), "file": "/never"}, "timeout": "1h"},
    }
    await system.apply(workflow("parent", nodes), child)
    await start(system)
    run = await begun(system, {})
    await noted(system, run, "node.waiting")
    await say(system, run, Cancel("a test", "enough"))
    head = await ends(system, run)
    assert (head.status, head.error) == ("cancelled", "cancelled by a test: enough")
    await system.until_quiet()
    statuses = {one.workflow: one.status for one in await log.runs(system.database)}
    assert statuses == {"parent": "cancelled", "sleepy": "cancelled"}


async def test_a_pause_holds_until_it_is_resumed_and_a_decision_is_kept(system: System) -> None:
    nodes = {
        "boss": {"uses": "wait.approval", "with": {"text": "pay?"}},
        "then": {"uses": "transform", "needs": ["boss"], "with": {"value": "${{ nodes.boss.output.data }}"}},
    }
    await system.apply(workflow("paying", nodes))
    await start(system)
    run = await begun(system, {})
    await noted(system, run, "node.waiting")
    await say(system, run, Pause("a test"))
    await say(system, run, Decide("boss", True, "a test", {"limit": 9}))
    await noted(system, run, "node.completed")
    head = await log.run(system.database, run)
    assert head is not None
    assert head.ended_at is None
    await say(system, run, Resume("a test"))
    assert (await ends(system, run)).status == "completed"
    assert (await outputs(system, run))["then"] == {"limit": 9}


async def test_a_map_keeps_its_order_and_survives_the_death_of_its_worker(system: System) -> None:
    nodes = {
        "each": {
            "uses": "map",
            "with": {"items": "${{ event.body.items }}"},
            "concurrency": 4,
            "nodes": {
                "note": {"uses": "test.record", "with": {"path": str(system.record)}},
                "twice": {"uses": "transform", "needs": ["note"], "with": {"value": "${{ item * 2 + index }}"}},
            },
        }
    }
    await system.apply(workflow("mapping", nodes))
    await system.ingest()
    system.relay()
    first = system.worker()
    await first.says("worker.started")
    run = await begun(system, {"items": list(range(200))})
    await noted(system, run, "item.ended")
    first.kill()
    await system.worker().says("worker.started")
    assert (await ends(system, run)).status == "completed"
    assert (await outputs(system, run))["each"] == [3 * index for index in range(200)]
    ended = [msgspec.json.decode(e.body or b"")["index"] for e in await log.of_type(system.database, run, "item.ended")]
    assert sorted(ended) == list(range(200))
