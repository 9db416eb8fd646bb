"""The contract of replays: of a delivery, of a run, of a batch's items, of nothing that was answered and done."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from events import log
from events.database import Database
from events.deliveries import DeliveryWriter
from events.errors import HeadraceError, NotFound
from events.ids import uuid7
from events.replay import outcome, outcomes, replay
from events.runs import Routing, RunWriter
from events.types import REPLAY_QUEUE, Receipt
from events.work import WorkList
from tests.contract.conftest import Open
from tests.rows import batch, handshake
from tests.system import until

pytestmark = pytest.mark.anyio


async def appended(ingest: Database, *receipts: Receipt) -> None:
    await DeliveryWriter(ingest).write(receipts)


async def test_a_batch_replays_as_each_of_its_items_that_exist(open_as: Open) -> None:
    sent = batch("a", "seen before", "b")
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        await appended(ingest, batch("seen before"), sent)
        asked = await replay(operator, sent.stream_id, actor="support", reason="why not")
        existing = [sent.items[0].stream_id, sent.items[2].stream_id]
        assert [item.delivery_id for item in asked.items] == existing
        rows = await operator.fetch("SELECT id, stream_id FROM work_item WHERE queue = $1", REPLAY_QUEUE)
        assert {(row[0], row[1]) for row in rows} == {(item.id, item.delivery_id) for item in asked.items}
        for id, said in [(sent.stream_id, {"items": 2}), *((id, {}) for id in existing)]:
            note = (await log.stream(operator, id))[-1]
            body = json.loads(note.body or b"")
            assert note.type == "delivery.replayed"
            assert body | {"actor": "support", "reason": "why not", "run_id": None} | said == body
        assert await outcomes(operator, asked.parts) == {}


async def test_the_outcomes_of_a_batch_are_those_of_its_items(open_as: Open) -> None:
    sent = batch("a", "b")
    async with open_as("ingest") as ingest, open_as("worker") as worker, open_as("operator") as operator:
        await appended(ingest, sent)
        asked = await replay(operator, sent.stream_id, actor="support", reason=None)
        (item,) = await WorkList(worker, owner="me", lease=30.0).claim(REPLAY_QUEUE, 1, 0)
        said = json.dumps({"item": str(item.id), "runs": []}).encode()
        writer = RunWriter(worker, owner="me", lease=30.0)
        assert await writer.route([Routing(item.id, item.token, item.stream_id, 1, "delivery.routed", said)]) == [True]
        assert await outcomes(operator, asked.parts) == {item.id: json.loads(said)}
        (of_item,) = [part for part in asked.parts if part.id == item.id]
        assert await outcome(operator, of_item) == json.loads(said)


async def test_an_item_replays_as_any_delivery(open_as: Open) -> None:
    sent = batch("a", "b")
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        await appended(ingest, sent)
        asked = await replay(operator, sent.items[1].stream_id, actor="support", reason=None)
        assert (asked.delivery_id, asked.items, asked.parts) == (sent.items[1].stream_id, (), (asked,))


async def test_a_handshake_has_nothing_to_replay(open_as: Open) -> None:
    sent = handshake("slack.url_verification")
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        await appended(ingest, sent)
        with pytest.raises(HeadraceError, match=r"is a handshake \(slack.url_verification\)"):
            await replay(operator, sent.stream_id, actor="support", reason=None)
        assert len(await log.stream(operator, sent.stream_id)) == 1


async def test_a_batch_of_nothing_new_has_nothing_to_replay(open_as: Open) -> None:
    sent = batch("a")
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        await appended(ingest, batch("a"), sent)
        with pytest.raises(HeadraceError, match="had all come before, in other deliveries"):
            await replay(operator, sent.stream_id, actor="support", reason=None)
        with pytest.raises(NotFound):
            await replay(operator, uuid7(operator.clock.now()), actor="support", reason=None)


async def test_many_replays_of_one_batch_at_once_each_get_their_items(open_as: Open) -> None:
    sent = batch(*[f"item {number}" for number in range(1200)])
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        await appended(ingest, sent)
        await asyncio.gather(*[replay(operator, sent.stream_id, actor="support", reason=None) for _ in range(4)])
        assert await operator.fetchval("SELECT count(*) FROM work_item WHERE queue = $1", REPLAY_QUEUE) == 4800
        gaps = "SELECT count(*) FROM (SELECT FROM event GROUP BY stream_id HAVING max(version) + 1 <> count(*)) g"
        assert await operator.fetchval(gaps) == 0
        assert await operator.fetchval("SELECT count(*) FROM event WHERE version = 4") == 1201


async def test_a_worker_that_routes_the_items_in_another_order_is_no_error(open_as: Open, database_url: str) -> None:
    """The two deadlock, PostgreSQL undoes the replay's notes, and they are written once the worker is done."""
    sent = batch("a", "b")
    low, high = sorted(item.stream_id for item in sent.items)
    note = "INSERT INTO event (stream_id, version, workspace_id, type, body) VALUES ($1, 1, 1, 'delivery.routed', '{}')"
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        await appended(ingest, sent)
        rival = await asyncpg.connect(database_url)
        try:
            await rival.execute("SET deadlock_timeout = '1h'")
            transaction = rival.transaction()
            await transaction.start()
            await rival.execute(note, high)
            asking = asyncio.create_task(replay(operator, sent.stream_id, actor="support", reason=None))

            async def waits() -> bool:
                query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))"
                return bool(await operator.fetchval(query, rival.get_server_pid()))

            await until(waits, "the replay waits for the worker")
            await rival.execute(note, low)
            await transaction.commit()
            asked = await asking
        finally:
            await rival.close()
        assert len(asked.items) == 2
        for id in (low, high):
            types = [event.type for event in await log.stream(operator, id)]
            assert types == ["delivery.received", "delivery.routed", "delivery.replayed"]
        assert await operator.fetchval("SELECT count(*) FROM work_item WHERE queue = $1", REPLAY_QUEUE) == 2
