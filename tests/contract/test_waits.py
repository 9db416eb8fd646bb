"""The contract of waits for events: a run and the delivery that it waits for cannot miss each other."""

from __future__ import annotations

import asyncio
from uuid import UUID

import msgspec
import pytest

from events.definitions import Applying
from events.ids import derived_id
from events.inbox import read
from events.runs import Arrival, Finish, Routing, RunWriter, Subscribe, Tell
from events.sweep import Swept, sweep
from events.types import WorkItem
from events.waits import NewArrivals, WaitExpression, arrivals, expressions, note
from tests.contract.conftest import Open
from tests.contract.world import FOREVER, World, child, step, uncommitted
from tests.rows import deliver

pytestmark = pytest.mark.anyio

PAID = Arrival("shop", b"e" * 16, b"k" * 16)
OTHER = Arrival("shop", b"e" * 16, b"o" * 16)
WAIT = Subscribe("wait", PAID.source, PAID.expression, PAID.key, None)


async def delivery(everyone: World) -> WorkItem:
    """A delivery that is held, to be routed."""
    await deliver(everyone.ingest)
    (item,) = await everyone.work.claim("webhook", 1, 1)
    return item


async def noted(everyone: World, item: WorkItem, *found: Arrival) -> Routing:
    """Notes what a delivery is found by; its routing, which is not written yet."""
    await note(everyone.worker, [NewArrivals(item.stream_id, "order.paid", found)])
    return Routing(item.id, item.token, item.stream_id, 1, "delivery.routed", b"{}", (), found)


async def waiting(everyone: World, *waits: Subscribe, queue: str = "webhook") -> UUID:
    """A run that sleeps and waits."""
    id = await everyone.run(queue)
    assert await everyone.writer.append([step(id, then=FOREVER, effects=waits)]) == [True]
    return id


async def looked(everyone: World, since: float = 0.0) -> list[UUID]:
    return await arrivals(everyone.worker, PAID.source, PAID.expression, PAID.key, since)


async def test_a_delivery_wakes_the_runs_that_wait_for_it_and_no_other(everyone: World) -> None:
    id = await waiting(everyone, WAIT, queue="default")
    other = await waiting(everyone, Subscribe("wait", "shop", OTHER.expression, OTHER.key, None))
    elsewhere = await waiting(everyone, Subscribe("wait", "bank", PAID.expression, PAID.key, None))
    item = await delivery(everyone)
    assert await everyone.writer.route([await noted(everyone, item, PAID)]) == [True]
    (row,) = await read(everyone.worker, id, 0)
    assert row.type == "event.arrived"
    assert msgspec.json.decode(row.body) == {"node": "wait", "delivery_id": str(item.stream_id)}
    assert [await everyone.due(one) for one in (id, other, elsewhere)] == [True, False, False]
    assert everyone.rung == ["default"]
    assert await everyone.item(item.id) is None
    assert (await everyone.events(item.stream_id))[-1] == (1, "delivery.routed")


async def test_a_holder_that_waits_is_told_and_keeps_its_lease(everyone: World) -> None:
    id = await everyone.run()
    await everyone.writer.append([step(id, effects=(WAIT,))])
    assert await everyone.writer.route([await noted(everyone, await delivery(everyone), PAID)]) == [True]
    ((seq, _),) = await everyone.inbox(id)
    assert (everyone.rung, everyone.told) == ([], [(id, seq)])
    assert not await everyone.due(id)


async def test_each_node_is_told_and_each_delivery_tells(everyone: World) -> None:
    id = await waiting(everyone, WAIT, Subscribe("again", PAID.source, PAID.expression, PAID.key, 1.0))
    routings = [await noted(everyone, await delivery(everyone), PAID, PAID, OTHER) for _ in range(2)]
    assert await everyone.writer.route(routings) == [True, True]
    told = {(row["node"], row["delivery_id"]) for row in await bodies(everyone, id)}
    assert told == {(node, str(one.delivery_id)) for node in ("wait", "again") for one in routings}
    assert len(await everyone.inbox(id)) == 4


async def bodies(everyone: World, id: UUID) -> list[dict[str, str]]:
    return [msgspec.json.decode(row.body) for row in await read(everyone.worker, id, 0)]


async def test_a_stale_routing_tells_nobody(everyone: World) -> None:
    id = await waiting(everyone, WAIT)
    routing = await noted(everyone, await delivery(everyone), PAID)
    stale = msgspec.structs.replace(routing, token=routing.token + 1, runs=(child(derived_id(routing.id, "w")),))
    assert await everyone.writer.route([stale]) == [False]
    assert (await everyone.inbox(id), await everyone.head(derived_id(routing.id, "w"))) == ([], None)
    assert not await everyone.due(id)
    assert await everyone.writer.route([routing]) == [True]
    assert await everyone.writer.route([routing]) == [False]
    assert len(await everyone.inbox(id)) == 1


async def test_who_has_ended_or_does_not_wait_any_more_is_not_told(everyone: World) -> None:
    id = await waiting(everyone, WAIT)
    await everyone.say(id)
    (item,) = await everyone.work.claim("webhook", 10, 10)
    await everyone.writer.append([step(id, item.token, 2, Finish(), status="completed")])
    await everyone.admin.execute(  # as a race may leave it behind
        "INSERT INTO subscription VALUES ($1, 'wait', $2, $3, $4)", id, PAID.source, PAID.expression, PAID.key
    )
    assert await everyone.writer.route([await noted(everyone, await delivery(everyone), PAID)]) == [True]
    assert await everyone.count("inbox") == 0


async def test_a_run_of_the_delivery_starts_with_the_routing_that_tells_others(everyone: World) -> None:
    id = await waiting(everyone, WAIT)
    item = await delivery(everyone)
    run = child(derived_id(item.id, "w"), leased=True)
    routing = msgspec.structs.replace(await noted(everyone, item, PAID), runs=(run,))
    assert await everyone.writer.route([routing]) == [True]
    assert (await everyone.head(run.id) or {})["delivery_id"] == item.stream_id
    assert len(await everyone.inbox(id)) == 1


async def test_a_wait_that_commits_after_the_routing_finds_the_arrival(everyone: World) -> None:
    """The router looks for subscriptions while the run's is not committed; so the run must find the arrival."""
    id = await everyone.run()
    item = await delivery(everyone)
    async with uncommitted(everyone.worker) as holder:
        assert await everyone.writer_on(holder).append([step(id, effects=(WAIT,))]) == [True]
        assert await everyone.writer.route([await noted(everyone, item, PAID)]) == [True]
    assert await everyone.inbox(id) == []
    assert await looked(everyone) == [item.stream_id]


async def test_a_delivery_that_is_routed_after_the_wait_has_looked_tells_the_run(everyone: World) -> None:
    """The run looks for arrivals while the delivery's are not committed; so the router must find the subscription."""
    id = await everyone.run()
    item = await delivery(everyone)
    async with uncommitted(everyone.worker) as router:
        arrived = NewArrivals(item.stream_id, "order.paid", (PAID,))
        await note(router, [arrived])
        assert await everyone.writer.append([step(id, effects=(WAIT,))]) == [True]
        assert await looked(everyone) == []
    assert await everyone.writer.route([await noted(everyone, item, PAID)]) == [True]
    assert len(await everyone.inbox(id)) == 1


async def test_a_run_that_lets_go_while_it_is_told_is_due(everyone: World) -> None:
    id = await everyone.run()
    assert await everyone.writer.append([step(id, effects=(WAIT,))]) == [True]
    routing = await noted(everyone, await delivery(everyone), PAID)
    async with uncommitted(everyone.worker) as router:
        assert await everyone.writer_on(router).route([routing]) == [True]
        letting_go = asyncio.create_task(everyone.writer.append([step(id, version=2, then=FOREVER)]))
        await everyone.someone_waits()
    assert await letting_go == [True]
    assert await everyone.due(id)


async def test_a_run_that_is_told_while_it_lets_go_is_due(everyone: World) -> None:
    id = await everyone.run()
    assert await everyone.writer.append([step(id, effects=(WAIT,))]) == [True]
    routing = await noted(everyone, await delivery(everyone), PAID)
    async with uncommitted(everyone.worker) as holder:
        assert await everyone.writer_on(holder).append([step(id, version=2, then=FOREVER)]) == [True]
        telling = asyncio.create_task(everyone.writer.route([routing]))
        await everyone.someone_waits()
    assert await telling == [True]
    assert await everyone.due(id)
    assert everyone.rung == ["webhook"]


async def test_arrivals_are_noted_once_and_found_by_their_time(everyone: World) -> None:
    first, second = await delivery(everyone), await delivery(everyone)
    for item in (first, second, first):
        await noted(everyone, item, PAID, OTHER)
    assert await looked(everyone) == [first.stream_id, second.stream_id]
    assert await looked(everyone, everyone.worker.clock.now() + 60) == []
    assert await everyone.count("arrival") == 4
    await note(everyone.worker, [])


async def test_of_many_arrivals_the_newest_are_found(everyone: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.waits.MOST_ARRIVALS", 2)
    items = [await delivery(everyone) for _ in range(3)]
    for item in items:
        await noted(everyone, item, PAID)
    assert await looked(everyone) == [item.stream_id for item in items[1:]]


async def test_expressions_stay_for_ever(everyone: World) -> None:
    assert await expressions(everyone.worker) == []
    for _ in range(2):
        async with Applying(everyone.operator) as applying:
            await applying.wait_expression("shop", b"e" * 16, "event.body.id")
    assert await expressions(everyone.worker) == [WaitExpression("shop", b"e" * 16, "event.body.id")]


async def test_what_is_left_behind_is_swept_in_parts(everyone: World) -> None:
    id = await waiting(everyone, WAIT)
    items = [await delivery(everyone) for _ in range(3)]
    for item in items:
        await noted(everyone, item, PAID)
    await everyone.admin.execute(
        "UPDATE arrival SET at = now() - interval '8 days' WHERE delivery_id <> $1", items[2].stream_id
    )
    await everyone.admin.execute(
        "INSERT INTO subscription SELECT gen_random_uuid(), node, source, expression, key FROM subscription, "
        "generate_series(1, 3)"
    )
    assert await sweep(everyone.relay, most=2) == Swept(arrivals=2, inbox=0, subscriptions=2)
    assert await sweep(everyone.relay, most=2) == Swept(arrivals=0, inbox=0, subscriptions=1)
    assert await looked(everyone) == [items[2].stream_id]
    assert await everyone.subscribed(id) == {"wait"}


async def test_routers_and_runs_that_tell_each_other_do_not_deadlock(everyone: World, open_as: Open) -> None:
    """Routers lock deliveries and the runs that wait for them; runs lock themselves and those that they tell."""
    runs = [await everyone.run() for _ in range(16)]
    assert await everyone.writer.append([step(id, effects=(WAIT,)) for id in runs]) == [True] * 16
    await deliver(everyone.ingest, 60)
    items = await everyone.work.claim("webhook", 60, 0)
    routings = [await noted(everyone, item, PAID) for item in items]

    async def route(writer: RunWriter, mine: list[Routing]) -> None:
        for pair in zip(mine[::2], mine[1::2], strict=True):
            assert await writer.route(pair) == [True, True]

    async def tell(writer: RunWriter, mine: list[UUID]) -> None:
        for version in range(2, 22):
            rows = [step(id, version=version, effects=(Tell(runs[-1 - n], "x", b""),)) for n, id in enumerate(mine)]
            assert await writer.append(rows) == [True] * len(mine)

    async with open_as("worker") as a, open_as("worker") as b, asyncio.timeout(60):
        writers = [everyone.writer_on(database) for database in (a, b)]
        await asyncio.gather(
            *[route(writer, routings[n::2]) for n, writer in enumerate(writers)],
            *[tell(writer, runs[::-1][n::2]) for n, writer in enumerate(writers)],
        )
    assert await everyone.count("inbox") == 60 * 16 + 20 * 16
