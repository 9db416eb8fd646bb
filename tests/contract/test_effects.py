"""The contract of effects: what an append brings along is written with it, or not at all."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest

from events import log
from events.errors import BadRow
from events.ids import derived_id
from events.runs import Effect, Emit, Finish, Keep, StartRun, Status, Subscribe, Tell, Then, Unsubscribe, Yield
from events.types import DELIVERY_QUEUE, Kind
from tests.contract.conftest import Open
from tests.contract.world import FOREVER, World, child, step

pytestmark = pytest.mark.anyio

WAIT = Subscribe("wait", "shop", b"e" * 16, b"k" * 16, None)


def start(parent: UUID, name: str = "c", *, queue: str = "default", leased: bool = False) -> StartRun:
    return StartRun(child(derived_id(parent, name), queue=queue, leased=leased))


def emit(parent: UUID, name: str = "e") -> Emit:
    metadata = '{"source": "internal", "event_type": "order.paid"}'
    return Emit(derived_id(parent, name), "internal", "order.paid", metadata, b'{"n": 1}')


async def test_a_child_starts_with_the_commit_of_its_parent(everyone: World) -> None:
    parent = await everyone.run()
    effect = start(parent)
    assert await everyone.writer.append([step(parent, effects=(effect,))]) == [True]
    head = await everyone.head(effect.run.id)
    assert head is not None
    assert (head["parent"], head["workflow"], head["status"], head["version"]) == (parent, "child", "running", 0)
    assert head["workspace_id"] == 1
    assert await everyone.events(effect.run.id) == [(0, "run.started")]
    assert everyone.rung == ["default"]
    (item,) = await everyone.work.claim("default", 10, 10)
    assert (item.id, item.kind, item.token, item.attempt, item.signal) == (effect.run.id, Kind.RUN, 1, 1, 0)


async def test_a_child_has_the_delivery_that_it_is_given(everyone: World) -> None:
    parent = await everyone.run()
    delivery = (await everyone.head(parent) or {})["delivery_id"]
    run = child(derived_id(parent, "c"))
    given = type(run)(run.id, run.workflow, run.workflow_hash, run.queue, run.started, False, delivery_id=delivery)
    await everyone.writer.append([step(parent, effects=(StartRun(given),))])
    (item,) = await everyone.work.claim("default", 10, 10)
    assert item.receipt is not None
    assert item.receipt.stream_id == delivery


async def test_a_leased_child_is_held_here_and_nobody_is_rung_for(everyone: World) -> None:
    parent = await everyone.run()
    effect = start(parent, leased=True)
    await everyone.writer.append([step(parent, effects=(effect,))])
    assert everyone.rung == []
    assert await everyone.work.claim("default", 10, 10) == []
    assert await everyone.writer.append([step(effect.run.id, then=Finish(), status="completed")]) == [True]


async def test_a_child_that_is_started_again_is_the_one_that_was(everyone: World) -> None:
    parent = await everyone.run()
    effect = start(parent)
    await everyone.writer.append([step(parent, effects=(effect,))])
    assert await everyone.writer.append([step(parent, version=2, effects=(effect,))]) == [True]
    (item,) = await everyone.work.claim("default", 10, 10)
    await everyone.writer.append([step(item.id, then=Finish(), status="failed")])
    assert await everyone.writer.append([step(parent, version=3, effects=(effect,))]) == [True]
    assert await everyone.item(item.id) is None
    assert await everyone.events(item.id) == [(0, "run.started"), (1, "node.completed")]


async def test_an_emitted_event_is_a_delivery_that_waits_to_be_routed(everyone: World) -> None:
    run = await everyone.run()
    effect = emit(run)
    assert await everyone.writer.append([step(run, effects=(effect,))]) == [True]
    assert await everyone.writer.append([step(run, version=2, effects=(effect,))]) == [True]
    assert everyone.rung == [DELIVERY_QUEUE] * 2
    (item,) = await everyone.work.claim(DELIVERY_QUEUE, 10, 10)
    assert item.receipt is not None
    assert (item.kind, item.stream_id, item.receipt.type) == (Kind.DELIVERY, effect.id, "delivery.received")
    assert (item.receipt.source_id, item.receipt.headers, item.receipt.body) == (None, b"", b'{"n": 1}')
    assert item.receipt.metadata == {"source": "internal", "event_type": "order.paid"}


async def test_a_large_body_is_emitted_as_it_is(everyone: World) -> None:
    run = await everyone.run()
    body = b'{"text": "' + b"much " * 50_000 + b'"}'
    effect = Emit(derived_id(run, "e"), "internal", "t", "{}", body)
    await everyone.writer.append([step(run, effects=(effect,))])
    assert (await log.stream(everyone.worker, effect.id))[0].body == body


async def test_telling_wakes_whom_it_tells_and_passes_it_on(everyone: World) -> None:
    teller, asleep, awake = await everyone.run(), await everyone.sleeping("default"), await everyone.run()
    effects = (Tell(asleep, "child.ended", b"{}"), Tell(awake, "cancel", b"1"), Tell(awake, "cancel", b"2"))
    assert await everyone.writer.append([step(teller, effects=effects)]) == [True]
    assert await everyone.due(asleep)
    assert not await everyone.due(awake)
    assert everyone.rung == ["default"]
    inbox = await everyone.inbox(awake)
    assert everyone.told == [(awake, inbox[-1][0])]
    assert (len(inbox), len(await everyone.inbox(asleep))) == (2, 1)


async def test_who_has_ended_is_told_nothing(everyone: World) -> None:
    teller, ended = await everyone.run(), await everyone.ended()
    effects = (Tell(ended, "cancel", b"{}"), Tell(derived_id(teller, "nobody"), "cancel", b"{}"))
    assert await everyone.writer.append([step(teller, effects=effects)]) == [True]
    assert await everyone.count("inbox") == 0
    assert (everyone.rung, everyone.told) == ([], [])


async def test_a_delivery_is_no_run_to_be_told_anything(everyone: World) -> None:
    teller = await everyone.run()
    delivery = emit(teller)
    await everyone.writer.append([step(teller, effects=(delivery,))])
    assert await everyone.writer.append([step(teller, version=2, effects=(Tell(delivery.id, "x", b""),))]) == [True]
    assert await everyone.count("inbox") == 0


@pytest.mark.parametrize("order", [1, -1])
async def test_told_and_let_go_in_one_batch_is_due_at_once(everyone: World, order: int) -> None:
    teller, told = await everyone.run(), await everyone.run("default")
    rows = [step(teller, effects=(Tell(told, "child.ended", b"{}"),)), step(told, then=FOREVER)]
    assert await everyone.writer.append(rows[::order]) == [True, True]
    item = await everyone.item(told)
    assert item is not None
    assert (item["due"], item["owner"], item["token"]) == (True, None, 2)
    assert item["signal"] == (await everyone.inbox(told))[0][0]
    assert (everyone.rung, everyone.told) == (["default"], [])


async def test_told_and_kept_in_one_batch_stays_held(everyone: World) -> None:
    teller, told = await everyone.run(), await everyone.run()
    rows = [step(teller, effects=(Tell(told, "x", b""),)), step(told)]
    assert await everyone.writer.append(rows) == [True, True]
    item = await everyone.item(told)
    assert item is not None
    assert (item["due"], item["owner"], item["token"], item["attempt"]) == (False, "me", 1, 1)
    assert everyone.told == [(told, item["signal"])]


@pytest.mark.parametrize("order", [1, -1])
async def test_child_and_parent_end_in_one_batch(everyone: World, order: int) -> None:
    parent, ends = await everyone.run(), await everyone.run()
    told = Tell(parent, "child.ended", b"{}")
    rows = [
        step(ends, then=Finish(), status="completed", effects=(told,)),
        step(parent, then=Finish(), status="failed", effects=(Tell(ends, "cancel", b"{}"),)),
    ]
    assert await everyone.writer.append(rows[::order]) == [True, True]
    assert (await everyone.item(parent), await everyone.item(ends)) == (None, None)
    assert await everyone.count("inbox") == 0
    assert (everyone.rung, everyone.told) == ([], [])


async def test_a_child_may_be_told_something_in_the_commit_that_starts_it(everyone: World) -> None:
    parent = await everyone.run()
    effect = start(parent)
    rows = [step(parent, effects=(effect, Tell(effect.run.id, "cancel", b"{}")))]
    assert await everyone.writer.append(rows) == [True]
    (item,) = await everyone.work.claim("default", 10, 10)
    assert [(item.signal, "cancel")] == await everyone.inbox(item.id)
    assert item.signal > 0


async def test_a_run_may_tell_itself(everyone: World) -> None:
    id = await everyone.run()
    assert await everyone.writer.append([step(id, then=FOREVER, effects=(Tell(id, "x", b""),))]) == [True]
    assert await everyone.due(id)
    assert len(await everyone.inbox(id)) == 1


@pytest.mark.parametrize("then", [Keep(), Yield(0.0), FOREVER, Finish()])
async def test_a_stale_token_writes_nothing_at_all(everyone: World, then: Then) -> None:
    run, other = await everyone.run(), await everyone.sleeping()
    await everyone.writer.append([step(run, effects=(Subscribe("old", "shop", b"e" * 16, b"k" * 16, None),))])
    seq = await everyone.say(run)
    before = (await everyone.item(run), await everyone.item(other), await everyone.head(run))
    deliveries = await everyone.count("event")
    effects: tuple[Effect, ...] = (
        start(run),
        start(run, "d", leased=True),
        Tell(other, "cancel", b"{}"),
        Tell(derived_id(run, "c"), "cancel", b"{}"),
        emit(run),
        WAIT,
        Unsubscribe("old"),
    )
    stale = step(run, token=2, version=2, inbox=seq, then=then, effects=effects, status="failed")
    assert await everyone.writer.append([stale]) == [False]
    assert before == (await everyone.item(run), await everyone.item(other), await everyone.head(run))
    assert await everyone.head(derived_id(run, "c")) is None
    assert await everyone.count("event") == deliveries
    assert await everyone.subscribed(run) == {"old"}
    assert (await everyone.inbox(run), await everyone.inbox(other)) == ([(seq, "hello")], [])
    assert (everyone.rung, everyone.told) == ([], [])


async def test_of_two_holders_in_one_batch_only_the_current_one_writes(everyone: World) -> None:
    run, other = await everyone.run(), await everyone.sleeping("default")
    await everyone.admin.execute("UPDATE work_item SET due_at = now() WHERE id = $1", run)
    (item,) = await everyone.work.claim("webhook", 10, 10)
    rows = [
        step(run, token=1, effects=(start(run, "stale", queue="high_priority"), Tell(other, "stale", b""))),
        step(run, token=item.token, effects=(start(run, "current"), Tell(other, "current", b""))),
    ]
    assert await everyone.writer.append(rows) == [False, True]
    assert await everyone.head(derived_id(run, "stale")) is None
    assert await everyone.head(derived_id(run, "current")) is not None
    assert [type for _, type in await everyone.inbox(other)] == ["current"]
    assert everyone.rung == ["default"]


async def test_a_row_that_is_refused_leaves_no_effect(everyone: World) -> None:
    good, bad, other = await everyone.run(), await everyone.run(), await everyone.sleeping()
    effects = (Tell(other, "x", b""), emit(good), start(good), WAIT)
    with pytest.raises(BadRow):
        await everyone.writer.append([step(good, effects=effects), step(bad, version=0)])
    assert (await everyone.inbox(other), await everyone.subscribed(good)) == ([], set())
    assert await everyone.head(derived_id(good, "c")) is None
    assert everyone.rung == []


async def test_the_last_word_about_a_subscription_counts(everyone: World) -> None:
    a, b = await everyone.run(), await everyone.run()
    rows = [step(a, effects=(WAIT, Unsubscribe("wait"))), step(b, effects=(Unsubscribe("wait"), WAIT, WAIT))]
    assert await everyone.writer.append(rows) == [True, True]
    assert (await everyone.subscribed(a), await everyone.subscribed(b)) == (set(), {"wait"})
    assert await everyone.writer.append([step(b, version=2, effects=(Unsubscribe("wait"),))]) == [True]
    assert await everyone.subscribed(b) == set()


@pytest.mark.parametrize("elaborate", [False, True])
async def test_an_end_ends_all_waits_and_only_its_own(everyone: World, elaborate: bool) -> None:
    a, b = await everyone.run(), await everyone.run()
    other = Subscribe("other", "shop", b"e" * 16, b"k" * 16, 1e9)
    await everyone.writer.append([step(a, effects=(WAIT, other)), step(b, effects=(WAIT,))])
    end = step(a, version=2, then=Finish(), status="failed", effects=(Unsubscribe("other"),) if elaborate else ())
    assert await everyone.writer.append([end]) == [True]
    assert (await everyone.subscribed(a), await everyone.subscribed(b)) == (set(), {"wait"})


THENS: list[tuple[Then, Status]] = [
    (Keep(), "running"),
    (Yield(4e9), "waiting"),
    (FOREVER, "paused"),
    (Finish(), "cancelled"),
]


@pytest.mark.parametrize(("then", "status"), THENS)
async def test_both_statements_say_the_same_of_a_run_and_its_work(everyone: World, then: Then, status: Status) -> None:
    plain, elaborate = await everyone.run(), await everyone.run()
    assert await everyone.writer.append([step(plain, then=then, status=status)]) == [True]
    effects = (Unsubscribe("nothing"),)
    assert await everyone.writer.append([step(elaborate, then=then, status=status, effects=effects)]) == [True]
    assert await everyone.item(plain) == await everyone.item(elaborate)
    assert await everyone.events(plain) == await everyone.events(elaborate)
    heads = [await everyone.head(id) or {} for id in (plain, elaborate)]
    assert [head["status"] for head in heads] == [status, status]
    assert [head["version"] for head in heads] == [1, 1]
    assert [head["ended_at"] is not None for head in heads] == [status == "cancelled"] * 2


async def test_processes_whose_runs_tell_each_other_do_not_deadlock(everyone: World, open_as: Open) -> None:
    """Every batch holds its own runs and tells others of other processes, at the same time and in any order."""
    chance = random.Random(7)
    runs = [await everyone.run() for _ in range(32)]
    rounds = 25

    async def process(mine: list[UUID]) -> int:
        tells = 0
        async with open_as("worker") as worker:
            writer = everyone.writer_on(worker)
            for version in range(1, rounds + 1):
                chance.shuffle(mine)
                batch = []
                for id in mine:
                    effects = tuple(Tell(chance.choice(runs), "x", b"") for _ in range(3))
                    tells += len(effects)
                    batch.append(step(id, version=version, effects=effects))
                assert await writer.append(batch) == [True] * len(mine)
        return tells

    async with asyncio.timeout(60):
        told = await asyncio.gather(*[process(runs[n::4]) for n in range(4)])
    assert await everyone.count("inbox") == sum(told)
    newest = "SELECT count(*) FROM work_item w WHERE signal <> (SELECT max(seq) FROM inbox WHERE stream_id = w.id)"
    assert await everyone.admin.fetchval(newest) == 0
