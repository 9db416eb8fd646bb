"""The contract of the event log: what an append promises, and what nobody may do."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from events import log
from events.deliveries import DeliveryWriter, delivery_journal
from events.errors import BadRow
from events.ids import uuid7, uuid7_floor
from events.replay import replay
from events.types import Accepted, Duplicate
from tests.contract.conftest import Open
from tests.rows import deliver, receipt, start_run

pytestmark = pytest.mark.anyio


async def test_a_delivery_is_kept_byte_for_byte(open_as: Open) -> None:
    body = bytes(range(256)) * 40 + "ünïcødé \u0000".encode()
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        (appended,) = await DeliveryWriter(ingest).write([receipt(body=body)])
        assert isinstance(appended, Accepted)
        (event,) = await log.stream(worker, appended.id)
    assert (event.body, event.headers, event.type, event.version) == (body, b"a: b", "delivery.received", 0)


async def test_an_empty_body_is_a_body(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        (appended,) = await DeliveryWriter(ingest).write([receipt(body=b"")])
        assert isinstance(appended, Accepted)
        assert (await log.stream(worker, appended.id))[0].body == b""


async def test_a_duplicate_is_answered_with_the_first_id(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        (first,) = await writer.write([receipt("k")])
        (second,) = await writer.write([receipt("k")])
        assert isinstance(first, Accepted)
        assert second == Duplicate(first.id)
        assert await operator.fetchval("SELECT count(*) FROM event") == 1
        assert await operator.fetchval("SELECT count(*) FROM work_item") == 1


async def test_the_same_key_of_another_source_is_another_delivery(open_as: Open) -> None:
    async with open_as("ingest") as ingest:
        results = await DeliveryWriter(ingest).write([receipt("k", source_id=1), receipt("k", source_id=2)])
    assert all(isinstance(result, Accepted) for result in results)


async def test_two_equal_deliveries_in_one_batch(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        results = await DeliveryWriter(ingest).write(
            [receipt("a"), receipt("k"), receipt("k"), receipt("k"), receipt("b")]
        )
        accepted = [result.id for result in results if isinstance(result, Accepted)]
        assert len(accepted) == 3
        assert results[1] == Accepted(accepted[1])
        assert results[2] == results[3] == Duplicate(accepted[1])
        assert await operator.fetchval("SELECT count(*) FROM event") == 3


async def test_a_bad_row_in_a_batch_fails_alone(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        journal = delivery_journal(ingest, max_waiting=100)
        rows = [
            receipt(),
            receipt(metadata='{"no": "\\u0000"}'),
            receipt(),
            receipt(metadata="not json"),
            receipt(),
        ]
        results = await asyncio.gather(*[journal.append(row) for row in rows], return_exceptions=True)
        assert [type(result) for result in results] == [Accepted, BadRow, Accepted, BadRow, Accepted]
        assert await operator.fetchval("SELECT count(*) FROM event") == 3
        assert await operator.fetchval("SELECT count(*) FROM delivery_key") == 3, "a refused row leaves no key behind"


async def test_equal_keys_in_concurrent_batches_neither_deadlock_nor_double(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        writer = DeliveryWriter(ingest)
        names = [str(number) for number in range(40)]
        batches = [writer.write([receipt(name) for name in order]) for order in (names, names[::-1]) * 10]
        results = await asyncio.gather(*batches)
        assert sum(isinstance(row, Accepted) for batch in results for row in batch) == 40
        assert await operator.fetchval("SELECT count(*) FROM event") == 40


async def test_an_id_of_a_time_without_a_partition_is_refused(open_as: Open) -> None:
    stray = receipt()
    stray = type(stray)(uuid7(0.0), *[getattr(stray, name) for name in stray.__struct_fields__[1:]])
    async with open_as("ingest") as ingest:
        with pytest.raises(BadRow, match="no partition"):
            await DeliveryWriter(ingest).write([stray])


@pytest.mark.parametrize(
    "role",
    [
        "headrace_ingest",
        "headrace_worker",
        "headrace_relay",
        "headrace_operator",
        "headrace_owner",
        "postgres",
    ],
)
@pytest.mark.parametrize(
    "verb",
    ["UPDATE {} SET type = 'x'", "DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET type = 'x' WHERE false"],
)
async def test_events_are_never_changed_by_anybody(open_as: Open, database_url: str, role: str, verb: str) -> None:
    async with open_as("ingest") as ingest:
        (id,) = await deliver(ingest)
    connection = await asyncpg.connect(database_url)
    try:
        partition = await connection.fetchval("SELECT tableoid::regclass::text FROM event WHERE stream_id = $1", id)
        await connection.execute(f"SET ROLE {role}" if role != "postgres" else "RESET ROLE")
        for table in ("event", partition):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(verb.format(table))
        await connection.execute("RESET ROLE")
        assert await connection.fetchval("SELECT count(*) FROM event WHERE type = 'delivery.received'") == 1
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT body FROM event",
        "SELECT * FROM work_item",
        "DELETE FROM delivery_key",
        "SELECT * FROM workflow",
        "UPDATE source SET slug = 'x'",
    ],
)
async def test_ingest_can_append_and_nothing_else(open_as: Open, statement: str) -> None:
    async with open_as("ingest") as ingest, ingest.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_partitions_are_made_ahead_and_again_without_harm(open_as: Open) -> None:
    make = "SELECT make_event_partitions(now(), now() + interval '10 weeks')"
    async with open_as("relay") as first, open_as("relay") as second:
        made = await asyncio.gather(first.fetchval(make), second.fetchval(make), first.fetchval(make))
        assert sorted(made) == [0, 0, 6]  # four weeks stood since the migration, and this one
        floor = await first.fetchval("SELECT uuid_floor(to_timestamp(1700000000.123))")
    assert floor == uuid7_floor(1700000000.123)


async def test_a_replay_notes_who_and_why_and_works_beside_the_delivery(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator, open_as("worker") as worker:
        (id,) = await deliver(ingest)
        asked = await asyncio.gather(*[replay(operator, id, actor="support", reason=f"r{n}") for n in range(4)])
        events = await log.stream(worker, id)
        assert [event.type for event in events] == ["delivery.received"] + ["delivery.replayed"] * 4
        assert [event.version for event in events] == [0, 1, 2, 3, 4]
        items = {row["id"] for row in await operator.fetch("SELECT id FROM work_item WHERE stream_id = $1", id)}
        assert items == {id} | {one.id for one in asked}


async def test_a_run_replays_as_its_delivery_for_its_workflow_alone(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker, open_as("operator") as operator:
        run_id = await start_run(ingest, worker)
        asked = await replay(operator, run_id, actor="support", reason=None)
        row = (await operator.fetch("SELECT only_workflow, queue FROM work_item WHERE id = $1", asked.id))[0]
        assert (row["only_workflow"], row["queue"], asked.run_id) == ("w", "high_priority", run_id)
