"""The contract of lists: what became of every delivery, newest first, page by page, and of a batch's items."""

from __future__ import annotations

import math
from uuid import UUID

import msgspec
import pytest

from events import audit, lanes, lists
from events.database import Database
from events.deliveries import DeliveryWriter
from events.effects import StartRequest
from events.errors import NotFound
from events.ids import derived_id
from events.lists import DeliveryState
from events.runs import NewRun, Routing, RunWriter
from events.types import Receipt
from events.work import WorkList
from tests.contract.conftest import Open
from tests.rows import batch, handshake, receipt

pytestmark = pytest.mark.anyio


async def route(worker: Database, wanted: set[UUID], parked: UUID | None = None) -> None:
    """Routes all that is due: to one run where it is wanted."""
    writer = RunWriter(worker, owner="me", lease=30.0)
    for item in await WorkList(worker, owner="me", lease=30.0).claim("webhook", 100, 0):
        run = NewRun(derived_id(item.id, "w"), "w", b"h", "webhook", b"{}", True)
        routing = Routing(item.id, item.token, item.stream_id, 1, "delivery.routed", b"{}", (run,))
        if item.id not in wanted:
            routing = msgspec.structs.replace(routing, runs=())
        if item.id == parked:
            routing = msgspec.structs.replace(routing, runs=(), type="delivery.parked")
        assert await writer.route([routing]) == [True]


async def hold(worker: Database, held: UUID, settled: UUID) -> None:
    """Routes two deliveries to lanes, and has one of these say no."""
    work, writer = WorkList(worker, owner="me", lease=30.0), RunWriter(worker, owner="me", lease=30.0)
    items = [item for item in await work.claim("webhook", 100, 0) if item.id in (held, settled)]
    for item in items:
        request = StartRequest(
            lane_id=derived_id(item.id, "lane"),
            workspace_id=1,
            workflow="w",
            key=None,
            workflow_hash=b"h",
            queue="default",
            delivery_id=item.stream_id,
            item=item.id,
            replay_of=None,
            size=0,
            traceparent=None,
        )
        routing = Routing(item.id, item.token, item.stream_id, 1, "delivery.routed", b"{}", requests=(request,))
        assert await writer.route([routing]) == [True]
    lane = next(one for one in await work.claim("default", 100, 0) if one.id == derived_id(settled, "lane"))
    (waiting,) = await lanes.waiting(worker, lane.id, 10)
    no = lanes.Outcome(1, (), (waiting.request.item,), ((settled, b"{}"),), (), ("cancel", b"{}"), math.inf, True)
    assert await lanes.write(worker, lane.id, lane.token, lane.signal, no) is not None


async def several(ingest: Database, worker: Database) -> dict[str, Receipt]:
    """One delivery in each state, and two items of a batch: routed and waiting."""
    sent = {name: receipt(metadata=f'{{"source":"s","event_type":"t.{name}"}}') for name in ("routed", "unwanted")}
    sent["parked"] = receipt()
    sent["batch"] = batch("a_b", "b")
    writer = DeliveryWriter(ingest)
    await writer.write([sent["routed"], sent["unwanted"], sent["parked"], sent["batch"]])
    await route(worker, {sent["routed"].stream_id, sent["batch"].items[0].stream_id}, sent["parked"].stream_id)
    sent["held"], sent["settled"] = receipt(), receipt()
    await writer.write([sent["held"], sent["settled"]])
    await hold(worker, sent["held"].stream_id, sent["settled"].stream_id)
    sent["handshake"], sent["waiting"] = handshake("slack.url_verification"), receipt(source_id=2)
    await writer.write([sent["handshake"], sent["waiting"]])
    sent["item"] = sent["batch"].items[0]
    sent["other item"] = sent["batch"].items[1]
    return sent


async def test_every_delivery_has_one_state(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker, open_as("operator") as operator:
        sent = await several(ingest, worker)
        found = {one.id: one for one in await lists.deliveries(operator)}
        assert len(found) == len(sent)
        states = {name: found[one.stream_id].state.value for name, one in sent.items()}
        assert states == {
            "routed": "routed",
            "unwanted": "unwanted",
            "parked": "parked",
            "batch": "batch",
            "handshake": "handshake",
            "waiting": "waiting",
            "item": "routed",
            "other item": "unwanted",
            "held": "held",
            "settled": "settled",
        }
        assert (found[sent["batch"].stream_id].items, found[sent["item"].stream_id].runs) == (2, 1)
        for state in DeliveryState:
            only = await lists.deliveries(operator, state=state)
            assert [one.id for one in only] == sorted(one.id for one in found.values() if one.state is state)[::-1]
            assert only, state


async def test_lists_filter_by_source_and_type_and_go_on_before_an_id(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker, open_as("operator") as operator:
        sent = await several(ingest, worker)
        await operator.fetch(
            "INSERT INTO source (workspace_id, slug, definition, secrets) VALUES (1, 'one', '{}', '{}')"
        )
        assert len(await lists.deliveries(operator, source="one")) == len(sent) - 1
        with pytest.raises(NotFound, match="no source has the name 'two'"):
            await lists.deliveries(operator, source="two")

        async def of_type(type: str) -> set[UUID]:
            return {one.id for one in await lists.deliveries(operator, type=type)}

        routed, unwanted, item = (sent[name].stream_id for name in ("routed", "unwanted", "item"))
        assert await of_type("t.routed") == {routed}
        assert await of_type("t.*") == {routed, unwanted}
        assert await of_type("*wanted") == {unwanted}
        assert await of_type("a_b") == await of_type("a_*") == {item}
        assert await of_type("t_*") == await of_type("%") == await of_type("\\*") == set()
        everything = [one.id for one in await lists.deliveries(operator)]
        assert everything == sorted(everything, reverse=True)
        page = await lists.deliveries(operator, limit=3)
        rest = await lists.deliveries(operator, before=page[-1].id)
        assert [one.id for one in page + rest] == everything
        assert len(await lists.deliveries(operator, before=page[0].id, state=DeliveryState.UNWANTED)) == 2


async def test_a_batch_tells_what_became_of_each_item(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker, open_as("operator") as operator:
        sent = batch("a", "b", "a", "c")
        await DeliveryWriter(ingest).write([batch("c"), sent])
        await route(worker, {sent.items[1].stream_id})
        found = await lists.items(operator, sent.stream_id, 4)
        assert [None if one is None else (one.type, one.state.value) for one in found] == [
            ("a", "unwanted"),
            ("b", "routed"),
            None,
            None,
        ]
        assert await lists.items(operator, sent.stream_id, 0) == []


async def test_ten_thousand_items_are_listed(open_as: Open) -> None:
    sent = batch(*[f"item {number}" for number in range(10_000)])
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        await DeliveryWriter(ingest).write([sent])
        found = await lists.items(operator, sent.stream_id, 10_000)
        assert [one.id for one in found if one is not None] == [item.stream_id for item in sent.items]


async def test_the_audit_counts_a_batch_once_and_no_handshake(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        sent, alone, stray = batch("a", "b"), receipt(), receipt()
        await DeliveryWriter(ingest).write([sent, alone, handshake("x")])
        told = {sent.stream_id: b"{}", alone.stream_id: b"{}", sent.items[0].stream_id: b"a"}
        assert await audit.receipts(operator, told) == audit.Receipts(3, 3, 0)
        await DeliveryWriter(ingest).write([stray])
        assert await audit.receipts(operator, told) == audit.Receipts(3, 3, 1)
