"""The contract of the inbox: what is said to a run is read once, in order, and wakes it up."""

from __future__ import annotations

import asyncio
import math
from uuid import UUID

import pytest

from events import log
from events.claims import next_due
from events.errors import HeadraceError
from events.ids import uuid7
from events.inbox import Ended, InboxRow, Message, Sent, read, send, signals
from events.runs import Finish, Unsubscribe, Yield
from events.sweep import Swept, sweep
from tests.contract.world import FOREVER, World, step, uncommitted
from tests.rows import deliver

pytestmark = pytest.mark.anyio

NOTHING = Unsubscribe("no such node")
"""An effect that has none, for the elaborate statement."""


async def test_a_run_that_nobody_holds_is_due_with_what_it_is_told(everyone: World) -> None:
    id = await everyone.sleeping()
    item = await everyone.item(id)
    assert item is not None
    assert item["never"]
    assert item["signal"] == 0
    (sent,) = await send(everyone.operator, [Message(id, "cancel", b'{"by":"me"}')])
    assert isinstance(sent, Sent)
    assert (sent.queue, sent.leased) == ("webhook", False)
    (claimed,) = await everyone.work.claim("webhook", 10, 10)
    assert (claimed.id, claimed.signal) == (id, sent.seq)
    assert await read(everyone.worker, id, 0) == [InboxRow(sent.seq, "cancel", b'{"by":"me"}')]
    assert await read(everyone.worker, id, sent.seq) == []


async def test_a_run_that_is_held_stays_with_its_holder_who_sees_the_signal(everyone: World) -> None:
    id, other = await everyone.run(), await everyone.run()
    (sent,) = await send(everyone.operator, [Message(id, "cancel", b"{}")])
    assert isinstance(sent, Sent)
    assert sent.leased
    item = await everyone.item(id)
    assert item is not None
    assert (item["token"], item["owner"], item["due"]) == (1, "me", False)
    assert await signals(everyone.worker, [id, other]) == {id: sent.seq}
    assert await signals(everyone.worker, []) == {}


async def test_a_due_item_keeps_its_place_when_it_is_told_something(everyone: World) -> None:
    id = await everyone.sleeping()
    await everyone.admin.execute("UPDATE work_item SET due_at = now() - interval '1 h' WHERE id = $1", id)
    await everyone.say(id)
    assert await everyone.admin.fetchval("SELECT due_at < now() - interval '59 min' FROM work_item WHERE id = $1", id)


async def test_who_is_not_there_is_told_nothing(everyone: World) -> None:
    ended, sleeping = await everyone.ended(), await everyone.sleeping()
    (delivery,) = await deliver(everyone.ingest)
    messages = [Message(id, "cancel", b"{}") for id in (uuid7(1.0), delivery, ended, sleeping)]
    assert [type(answer) for answer in await send(everyone.operator, messages)] == [Ended, Ended, Ended, Sent]
    assert await everyone.count("inbox") == 1


async def test_messages_to_one_run_keep_their_order(everyone: World) -> None:
    a, b = await everyone.sleeping(), await everyone.sleeping()
    sent = await send(everyone.operator, [Message((a, b)[n % 2], f"m{n}", b"{}") for n in range(20)])
    assert [row.type for row in await read(everyone.worker, a, 0)] == [f"m{n}" for n in range(0, 20, 2)]
    assert [row.seq for row in await read(everyone.worker, b, 0)] == [
        answer.seq for answer in sent[1::2] if isinstance(answer, Sent)
    ]
    item = await everyone.item(b)
    assert item is not None
    assert isinstance(sent[-1], Sent)
    assert item["signal"] == sent[-1].seq


async def test_what_was_read_is_deleted_with_the_commit_that_says_so(everyone: World) -> None:
    id = await everyone.run()
    first, second = await everyone.say(id), await everyone.say(id)
    assert await everyone.writer.append([step(id, inbox=first)]) == [True]
    assert await everyone.inbox(id) == [(second, "hello")]
    assert await everyone.writer.append([step(id, token=7, version=2, inbox=second)]) == [False]
    assert await everyone.inbox(id) == [(second, "hello")]
    assert await everyone.writer.append([step(id, version=2, inbox=second, then=FOREVER)]) == [True]
    assert await everyone.inbox(id) == []
    assert not await everyone.due(id)
    assert everyone.rung == []


@pytest.mark.parametrize("elaborate", [False, True])
async def test_an_end_leaves_nothing_in_the_inbox(everyone: World, elaborate: bool) -> None:
    id, other = await everyone.run(), await everyone.run()
    await everyone.say(id)
    await everyone.say(other)
    end = step(id, then=Finish(), status="failed", effects=(NOTHING,) if elaborate else ())
    assert await everyone.writer.append([end]) == [True]
    assert (await everyone.inbox(id), len(await everyone.inbox(other))) == ([], 1)


@pytest.mark.parametrize("elaborate", [False, True])
async def test_a_run_let_go_with_a_signal_unread_is_due_at_once(everyone: World, elaborate: bool) -> None:
    id, calm = await everyone.run("default"), await everyone.run()
    await everyone.say(id)
    effects = (NOTHING,) if elaborate else ()
    rows = [step(id, then=FOREVER, effects=effects), step(calm, then=FOREVER, effects=effects)]
    assert await everyone.writer.append(rows) == [True, True]
    assert (await everyone.due(id), await everyone.due(calm)) == (True, False)
    assert everyone.rung == ["default"]


@pytest.mark.parametrize("elaborate", [False, True])
async def test_no_lost_wake_up_when_the_signal_commits_first(everyone: World, elaborate: bool) -> None:
    """The append waits for the sender's lock, and must see the signal that it did not see when it began."""
    id = await everyone.run()
    async with uncommitted(everyone.operator) as sender:
        await send(sender, [Message(id, "cancel", b"{}")])
        letting_go = asyncio.create_task(
            everyone.writer.append([step(id, then=FOREVER, effects=(NOTHING,) if elaborate else ())])
        )
        await everyone.someone_waits()
    assert await letting_go == [True]
    item = await everyone.item(id)
    assert item is not None
    assert item["due"]
    assert item["owner"] is None
    assert item["signal"] > 0


@pytest.mark.parametrize("elaborate", [False, True])
async def test_no_lost_wake_up_when_the_append_commits_first(everyone: World, elaborate: bool) -> None:
    """The sender waits for the holder's lock, and must see that the run is let go."""
    id = await everyone.run()
    async with uncommitted(everyone.worker) as holder:
        row = step(id, then=FOREVER, effects=(NOTHING,) if elaborate else ())
        assert await everyone.writer_on(holder).append([row]) == [True]
        sending = asyncio.create_task(send(everyone.operator, [Message(id, "cancel", b"{}")]))
        await everyone.someone_waits()
    (sent,) = await sending
    assert isinstance(sent, Sent)
    assert not sent.leased
    assert await everyone.due(id)


async def test_a_signal_that_meets_the_end_finds_the_run_ended(everyone: World) -> None:
    id = await everyone.run()
    async with uncommitted(everyone.worker) as holder:
        await everyone.writer_on(holder).append([step(id, then=Finish(), status="failed")])
        sending = asyncio.create_task(send(everyone.operator, [Message(id, "cancel", b"{}")]))
        await everyone.someone_waits()
    assert await sending == [Ended()]
    assert await everyone.count("inbox") == 0


async def test_an_end_that_meets_a_signal_leaves_a_row_that_is_swept(everyone: World) -> None:
    """The row was committed after the end's statement began: it is out of its sight, and nobody else's."""
    id, alive = await everyone.run(), await everyone.sleeping()
    await everyone.say(alive)
    async with uncommitted(everyone.operator) as sender:
        await send(sender, [Message(id, "cancel", b"{}")])
        ending = asyncio.create_task(everyone.writer.append([step(id, then=Finish(), status="failed")]))
        await everyone.someone_waits()
    assert await ending == [True]
    assert await everyone.item(id) is None
    assert await sweep(everyone.relay) == Swept(arrivals=0, inbox=1, subscriptions=0)
    assert (await everyone.inbox(id), len(await everyone.inbox(alive))) == ([], 1)


async def test_the_order_of_seq_is_the_order_of_commits(everyone: World) -> None:
    id = await everyone.sleeping()
    async with uncommitted(everyone.operator) as first:
        (before,) = await send(first, [Message(id, "first", b"{}")])
        second = asyncio.create_task(send(everyone.worker, [Message(id, "second", b"{}")]))
        await everyone.someone_waits()
        assert await read(everyone.worker, id, 0) == []
    (after,) = await second
    assert isinstance(before, Sent)
    assert isinstance(after, Sent)
    assert before.seq < after.seq


async def test_who_waits_for_ever_is_in_no_ones_way(everyone: World) -> None:
    id = await everyone.sleeping()
    assert await next_due(everyone.relay, ["webhook"]) == {"webhook": math.inf}
    (open_,) = await log.open_work(everyone.operator, id)
    assert open_.due_in == math.inf
    soon = await everyone.run()
    assert await everyone.writer.append([step(soon, then=Yield(everyone.worker.clock.now() + 60))]) == [True]
    assert 58 < (await next_due(everyone.relay, ["webhook"]))["webhook"] <= 60
    assert await everyone.work.claim("webhook", 10, 10) == []


async def test_a_crash_with_a_signal_unread_is_found_by_the_next_holder(everyone: World) -> None:
    id = await everyone.run()
    seq = await everyone.say(id)
    await everyone.admin.execute("UPDATE work_item SET due_at = now() WHERE id = $1", id)
    (claimed,) = await everyone.work.claim("webhook", 10, 10)
    assert (claimed.id, claimed.token, claimed.signal) == (id, 2, seq)
    assert await everyone.writer.append([step(id, token=1, inbox=seq)]) == [False]
    assert len(await read(everyone.worker, id, 0)) == 1


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("ingest", "SELECT seq FROM inbox"),
        ("ingest", "INSERT INTO inbox (stream_id, seq, type, body) VALUES (gen_random_uuid(), 1, 'cancel', '')"),
        ("relay", "SELECT body FROM inbox"),
        ("relay", "INSERT INTO inbox (stream_id, seq, type, body) VALUES (gen_random_uuid(), 1, 'cancel', '')"),
        ("relay", "SELECT key FROM arrival"),
        ("worker", "DELETE FROM arrival"),
        ("worker", "INSERT INTO wait_expression VALUES ('s', '', '')"),
        ("operator", "UPDATE work_item SET token = 0"),
        ("operator", "UPDATE run SET status = 'completed'"),
        ("operator", "DELETE FROM inbox"),
        ("operator", "DELETE FROM subscription"),
    ],
)
async def test_nobody_has_rights_that_their_work_does_not_need(everyone: World, role: str, statement: str) -> None:
    with pytest.raises(HeadraceError, match="permission denied"):
        await getattr(everyone, role).fetch(statement)


async def test_a_long_inbox_is_read_in_parts(everyone: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.inbox.MOST_ROWS", 2)
    id: UUID = await everyone.sleeping()
    seqs = [await everyone.say(id) for _ in range(3)]
    first = await read(everyone.worker, id, 0)
    assert [row.seq for row in first] == seqs[:2]
    assert [row.seq for row in await read(everyone.worker, id, first[-1].seq)] == seqs[2:]
