"""The contract of reopening and starting runs: once, whoever asks at the same time."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import msgspec
import pytest

from events import log
from events.control import Reopen, Start, reopen, start
from events.errors import BadRow
from events.ids import uuid7
from events.inbox import InboxRow, Message, Sent, read, send
from events.runs import Finish, NewEvent, NewRun, Status, Subscribe
from tests.contract.world import World, step, uncommitted

pytestmark = pytest.mark.anyio

BODY = b'{"by":"me"}'


def new(name: str = "w", **more: object) -> NewRun:
    run = NewRun(uuid7(time.time()), name, b"hash", "default", b'{"started":1}', leased=False)
    return msgspec.structs.replace(run, **more)


@pytest.mark.parametrize("status", ["failed", "cancelled", "parked"])
async def test_an_ended_run_goes_on_with_what_it_is_told(everyone: World, status: Status) -> None:
    id = await everyone.ended(status)
    assert await reopen(everyone.operator, [Reopen(id, BODY, "high_priority")]) == {id: "high_priority"}
    (item,) = await everyone.work.claim("high_priority", 10, 10)
    assert (item.id, item.version, item.attempt, item.token) == (id, 1, 1, 1)
    assert await read(everyone.worker, id, 0) == [InboxRow(item.signal, "retry", BODY)]
    assert (await everyone.head(id) or {})["status"] == status
    row = step(id, item.token, 2, inbox=item.signal)
    assert await everyone.writer.append([row]) == [True]
    head = await everyone.head(id) or {}
    assert (head["status"], head["version"], head["ended_at"]) == ("running", 2, None)


async def test_who_has_not_ended_or_has_completed_is_not_reopened(everyone: World) -> None:
    ids = [await everyone.run(), await everyone.sleeping(), await everyone.ended("completed"), uuid7(1.0)]
    assert await reopen(everyone.operator, [Reopen(id, BODY) for id in ids]) == {}
    assert await everyone.count("inbox") == 0


async def test_a_run_goes_on_where_its_version_says_unless_told_otherwise(everyone: World) -> None:
    a, b = await everyone.ended(), await everyone.ended()
    assert await reopen(everyone.operator, [Reopen(a, BODY)]) == {a: "webhook"}
    await everyone.admin.execute(
        """INSERT INTO workflow_version VALUES ('hash', 1, 'w', '{"queue": "high_priority"}')""",
    )
    assert await reopen(everyone.operator, [Reopen(b, BODY)]) == {b: "high_priority"}


async def test_a_run_is_reopened_once(everyone: World) -> None:
    id = await everyone.ended()
    both = [Reopen(id, BODY, "default"), Reopen(id, BODY, "default")]
    assert await reopen(everyone.operator, both) == {id: "default"}
    assert await reopen(everyone.operator, both) == {}
    assert len(await everyone.inbox(id)) == 1


async def test_two_who_reopen_at_once_make_one_work_item(everyone: World) -> None:
    id = await everyone.ended()
    async with uncommitted(everyone.operator) as first:
        assert await reopen(first, [Reopen(id, b"1", "default")]) == {id: "default"}
        second = asyncio.create_task(reopen(everyone.operator, [Reopen(id, b"2", "default")]))
        await everyone.someone_waits()
    assert await second == {}
    assert [row.body for row in await read(everyone.worker, id, 0)] == [b"1"]


async def test_a_run_that_completes_meanwhile_stays_completed(everyone: World) -> None:
    """The statement began when the run had failed; it must look at the run as it is when it has its lock."""
    id = await everyone.ended()
    async with uncommitted(everyone.worker) as other:
        await other.fetch("UPDATE run SET status = 'completed' WHERE id = $1", id)
        reopening = asyncio.create_task(reopen(everyone.operator, [Reopen(id, BODY)]))
        await everyone.someone_waits()
    assert await reopening == {}
    assert (await everyone.item(id), await everyone.inbox(id)) == (None, [])


async def test_a_reopened_run_takes_signals_again(everyone: World) -> None:
    id = await everyone.ended()
    await reopen(everyone.operator, [Reopen(id, BODY)])
    (sent,) = await send(everyone.operator, [Message(id, "cancel", b"{}")])
    assert isinstance(sent, Sent)
    assert [row.type for row in await read(everyone.worker, id, 0)] == ["retry", "cancel"]


async def test_an_old_signal_and_an_old_wait_do_not_outlive_the_end(everyone: World) -> None:
    id = await everyone.run()
    wait = Subscribe("wait", "shop", b"e" * 16, b"k" * 16, None)
    await everyone.writer.append([step(id, effects=(wait,))])
    await everyone.say(id, "cancel")
    await everyone.writer.append([step(id, version=2, then=Finish(), status="failed")])
    await reopen(everyone.operator, [Reopen(id, BODY)])
    assert [row.type for row in await read(everyone.worker, id, 0)] == ["retry"]
    assert await everyone.subscribed(id) == set()


async def test_a_fork_starts_with_the_history_it_is_given(everyone: World) -> None:
    origin = await everyone.ended()
    delivery = (await everyone.head(origin) or {})["delivery_id"]
    run = new(fork_of=origin, parent=origin, delivery_id=delivery)
    events = tuple(NewEvent(version, f"type.{version}", b"x" * 5000 * version) for version in (1, 2))
    plain = new()
    assert await start(everyone.operator, [Start(run, events, "paused"), Start(plain)]) == [True, True]
    head = await everyone.head(run.id) or {}
    assert (head["fork_of"], head["parent"], head["status"], head["version"]) == (origin, origin, "paused", 2)
    stored = await log.stream(everyone.worker, run.id)
    assert [event.body for event in stored] == [b'{"started":1}', *(event.body for event in events)]
    assert await everyone.events(plain.id) == [(0, "run.started")]
    items = {item.id: item for item in await everyone.work.claim("default", 10, 10)}
    assert {id: item.version for id, item in items.items()} == {run.id: 2, plain.id: 0}
    assert items[run.id].receipt is not None
    assert items[plain.id].receipt is None


async def test_a_run_that_exists_is_not_started_again(everyone: World) -> None:
    run, other = new(), new()
    assert await start(everyone.operator, [Start(run)]) == [True]
    assert await start(everyone.operator, [Start(run, (NewEvent(1, "x", b""),)), Start(other)]) == [False, True]
    assert await everyone.events(run.id) == [(0, "run.started")]


async def test_two_who_start_the_same_run_at_once_make_one(everyone: World) -> None:
    run = new()
    async with uncommitted(everyone.operator) as first:
        assert await start(first, [Start(run)]) == [True]
        second = asyncio.create_task(start(everyone.operator, [Start(run)]))
        await everyone.someone_waits()
    assert await second == [False]
    assert await everyone.events(run.id) == [(0, "run.started")]


@pytest.mark.parametrize("versions", [(0,), (1, 1)])
async def test_a_history_with_two_events_of_one_version_is_refused(everyone: World, versions: tuple[int, ...]) -> None:
    run = new()
    with pytest.raises(BadRow):
        await start(everyone.operator, [Start(run, tuple(NewEvent(version, "x", b"") for version in versions))])
    assert await everyone.head(run.id) is None


async def test_many_are_reopened_together(everyone: World) -> None:
    ids: list[UUID] = [await everyone.ended() for _ in range(5)]
    assert set(await reopen(everyone.operator, [Reopen(id, BODY) for id in ids])) == set(ids)
    assert {item.id for item in await everyone.work.claim("webhook", 10, 10)} == set(ids)
    assert len({signal for id in ids for signal, _ in await everyone.inbox(id)}) == 5
