"""Lanes against the database: requests, fences, wake-ups, and what is left behind."""

from __future__ import annotations

import asyncio
import math
from uuid import UUID

import msgspec
import pytest

from events import lanes
from events.control import Reopen, reopen
from events.effects import NewRun, StartRequest
from events.ids import derived_id, uuid7
from events.lanes import Outcome
from events.lists import DeliveryState, deliveries
from events.runs import Finish, Routing, Wake
from events.types import Kind, WorkItem
from tests.contract.world import World, step
from tests.rows import deliver

pytestmark = pytest.mark.anyio

LANE = UUID(int=0xABC)
CANCEL = ("cancel", b'{"by":"its lane"}')


def ask(item: WorkItem, lane: UUID = LANE, queue: str = "webhook") -> StartRequest:
    return StartRequest(
        lane_id=lane,
        workspace_id=1,
        workflow="w",
        key="k",
        workflow_hash=b"hash",
        queue=queue,
        delivery_id=item.stream_id,
        item=item.id,
        replay_of=None,
        size=2,
        traceparent=None,
    )


def routing(item: WorkItem, *requests: StartRequest) -> Routing:
    return Routing(item.id, item.token, item.stream_id, 1, "delivery.routed", b"{}", requests=requests)


def start(request: StartRequest) -> NewRun:
    id = derived_id(request.item, "w")
    return NewRun(id, "w", b"hash", request.queue, b"{}", False, delivery_id=request.delivery_id)


def outcome(
    found: list[lanes.Waiting], *, starts: int = 0, due: float = math.inf, cancel: tuple[UUID, ...] = ()
) -> Outcome:
    chosen = found[:starts]
    return Outcome(
        workspace_id=1,
        runs=tuple(start(one.request) for one in chosen),
        taken=tuple(one.request.item for one in chosen),
        settled=tuple((one.request.delivery_id, b"{}") for one in chosen),
        cancel=cancel,
        cancel_with=CANCEL,
        due=due,
        over=starts == len(found),
    )


async def asked(everyone: World, count: int = 1, lane: UUID = LANE) -> list[WorkItem]:
    """Deliveries that ask a lane for a run."""
    await deliver(everyone.ingest, count)
    items = await everyone.work.claim("webhook", count + 10, 1)
    items = [item for item in items if item.kind is Kind.DELIVERY]
    assert await everyone.writer.route([routing(item, ask(item, lane)) for item in items]) == [True] * count
    return items


async def claimed(everyone: World) -> WorkItem:
    """The lane, held."""
    (item,) = [one for one in await everyone.work.claim("webhook", 10, 1) if one.kind is Kind.LANE]
    return item


async def test_a_request_is_put_with_its_routing_and_wakes_its_lane(everyone: World) -> None:
    items = await asked(everyone, 3)
    assert "webhook" in everyone.rung
    lane = await claimed(everyone)
    found = await lanes.waiting(everyone.worker, lane.id, 10)
    assert [one.request.delivery_id for one in found] == [item.stream_id for item in items]
    assert lane.signal == found[-1].seq
    assert await everyone.item(items[0].id) is None
    assert [one.state for one in await deliveries(everyone.operator)] == [DeliveryState.HELD] * 3


async def test_what_came_first_is_first_whoever_was_routed_first(everyone: World) -> None:
    await deliver(everyone.ingest, 3)
    items = await everyone.work.claim("webhook", 3, 1)
    for item in sorted(items, key=lambda item: item.id, reverse=True):
        assert await everyone.writer.route([routing(item, ask(item))]) == [True]
    found = await lanes.waiting(everyone.worker, LANE, 10)
    assert [one.request.item for one in found] == sorted(item.id for item in items)
    assert max(one.seq for one in found) == found[0].seq


async def test_what_is_decided_is_written_once(everyone: World) -> None:
    items = await asked(everyone, 2)
    lane = await claimed(everyone)
    found = await lanes.waiting(everyone.worker, lane.id, 10)
    first = outcome(found, starts=1)
    assert await lanes.write(everyone.worker, lane.id, lane.token, lane.signal, first) == frozenset({"webhook"})
    assert await lanes.write(everyone.worker, lane.id, lane.token, lane.signal, first) is None
    run = first.runs[0]
    head = await everyone.head(run.id)
    assert head is not None
    assert (head["status"], head["lane"], head["delivery_id"]) == ("running", LANE, items[0].stream_id)
    assert await everyone.events(items[0].stream_id) == [
        (0, "delivery.received"),
        (1, "delivery.routed"),
        (2, "delivery.settled"),
    ]
    assert [one.seq for one in await lanes.waiting(everyone.worker, LANE, 10)] == [found[1].seq]
    assert (await lanes.active(everyone.worker, LANE, 5)).runs == (run.id,)
    item = await everyone.item(LANE)
    assert item is not None
    assert (item["never"], item["owner"], item["attempt"]) == (True, None, 0)


async def test_the_end_of_a_run_wakes_its_lane(everyone: World) -> None:
    await asked(everyone, 2)
    lane = await claimed(everyone)
    found = await lanes.waiting(everyone.worker, lane.id, 10)
    await lanes.write(everyone.worker, lane.id, lane.token, lane.signal, outcome(found, starts=1))
    (run,) = await everyone.work.claim("webhook", 10, 1)
    assert run.lane == LANE
    assert not await everyone.due(LANE)
    everyone.rung.clear()
    ending = msgspec.structs.replace(
        step(run.id, then=Finish(), status="completed"), token=run.token, effects=(Wake(LANE),)
    )
    assert await everyone.writer.append([ending]) == [True]
    assert await everyone.due(LANE)
    assert everyone.rung == ["webhook"]
    assert (await lanes.active(everyone.worker, LANE, 5)).runs == ()


async def test_a_lane_that_is_told_something_while_it_is_held_is_due_again_at_once(everyone: World) -> None:
    await asked(everyone)
    lane = await claimed(everyone)
    found = await lanes.waiting(everyone.worker, lane.id, 10)
    await asked(everyone)
    assert not await everyone.due(LANE)
    queues = await lanes.write(everyone.worker, lane.id, lane.token, lane.signal, outcome(found, starts=1))
    assert queues == frozenset({"webhook"})
    assert await everyone.due(LANE)
    assert len(await lanes.waiting(everyone.worker, LANE, 10)) == 1


async def test_a_lane_in_which_nothing_waits_goes_and_comes_back(everyone: World) -> None:
    await asked(everyone)
    lane = await claimed(everyone)
    found = await lanes.waiting(everyone.worker, lane.id, 10)
    await lanes.write(everyone.worker, lane.id, lane.token, lane.signal, outcome(found, starts=1))
    assert await everyone.item(LANE) is None
    await asked(everyone)
    assert len(await lanes.waiting(everyone.worker, LANE, 10)) == 1
    assert await everyone.due(LANE)


async def test_a_lane_that_goes_between_its_making_and_its_asking_is_made_again(
    everyone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = lanes.ensure

    async def first_in_vain(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lanes, "ensure", first_in_vain)
    items = await asked(everyone, 2)
    assert calls == 2
    assert len(await lanes.waiting(everyone.worker, LANE, 10)) == 2
    assert len(await everyone.events(items[0].stream_id)) == 2


async def test_a_routing_whose_token_is_stale_asks_for_nothing(everyone: World) -> None:
    await deliver(everyone.ingest)
    (item,) = await everyone.work.claim("webhook", 1, 1)
    stale = msgspec.structs.replace(item, token=item.token - 1)
    assert await everyone.writer.route([routing(stale, ask(stale))]) == [False]
    assert await lanes.waiting(everyone.worker, LANE, 10) == []
    assert await everyone.writer.route([routing(item, ask(item))]) == [True]


async def test_replacing_tells_the_active_run(everyone: World) -> None:
    await asked(everyone)
    lane = await claimed(everyone)
    found = await lanes.waiting(everyone.worker, lane.id, 10)
    await lanes.write(everyone.worker, lane.id, lane.token, lane.signal, outcome(found, starts=1))
    (run,) = await everyone.work.claim("webhook", 10, 1)
    await asked(everyone)
    lane = await claimed(everyone)
    found = await lanes.waiting(everyone.worker, lane.id, 10)
    await lanes.write(everyone.worker, lane.id, lane.token, lane.signal, outcome(found, cancel=(run.id,)))
    assert [type for _, type in await everyone.inbox(run.id)] == ["cancel"]


async def test_a_reopened_run_is_active_again(everyone: World) -> None:
    await asked(everyone)
    lane = await claimed(everyone)
    found = await lanes.waiting(everyone.worker, lane.id, 10)
    await lanes.write(everyone.worker, lane.id, lane.token, lane.signal, outcome(found, starts=1))
    (run,) = await everyone.work.claim("webhook", 10, 1)
    failed = msgspec.structs.replace(
        step(run.id, then=Finish(), status="failed"), token=run.token, effects=(Wake(LANE),)
    )
    assert await everyone.writer.append([failed]) == [True]
    assert (await lanes.active(everyone.worker, LANE, 1)).runs == ()
    await reopen(everyone.operator, [Reopen(run.id, b"{}", "webhook")])
    again = await lanes.active(everyone.worker, LANE, 1)
    assert again.runs == (run.id,)
    assert len(again.recent) == 1


async def test_two_lanes_settle_the_same_delivery_at_once(everyone: World) -> None:
    other = UUID(int=0xABD)
    await deliver(everyone.ingest)
    (item,) = await everyone.work.claim("webhook", 1, 1)
    two = (ask(item), msgspec.structs.replace(ask(item, other), workflow="v"))
    assert await everyone.writer.route([routing(item, *two)]) == [True]
    held = [one for one in await everyone.work.claim("webhook", 10, 1) if one.kind is Kind.LANE]

    async def settle(lane: WorkItem) -> None:
        found = await lanes.waiting(everyone.worker, lane.id, 10)
        waits = tuple((one.request.delivery_id, b"{}") for one in found)
        dropped = Outcome(1, (), tuple(one.request.item for one in found), waits, (), CANCEL, math.inf, True)
        assert await lanes.write(everyone.worker, lane.id, lane.token, lane.signal, dropped) is not None

    await asyncio.gather(*map(settle, held))
    assert [version for version, _ in await everyone.events(item.stream_id)] == [0, 1, 2, 3]
    (one,) = await deliveries(everyone.operator)
    assert one.state is DeliveryState.SETTLED


async def test_many_who_ask_lanes_in_any_order_do_not_deadlock(everyone: World) -> None:
    keys = [uuid7(1e9 + n) for n in range(6)]
    await deliver(everyone.ingest, 60)
    items = await everyone.work.claim("webhook", 60, 1)

    async def some(mine: list[WorkItem], turn: int) -> None:
        order = keys[turn:] + keys[:turn]
        for item in mine:
            assert await everyone.writer.route([routing(item, *(ask(item, key) for key in order))]) == [True]

    await asyncio.gather(*[some(items[turn::6], turn) for turn in range(6)])
    counts = [len(await lanes.waiting(everyone.worker, key, 100)) for key in keys]
    assert counts == [60] * 6
