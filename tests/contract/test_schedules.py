"""The contract of schedules: each time fires once, whoever looks, and nothing else comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from structlog.testing import capture_logs

from events import log
from events.database import Database
from events.definitions import Applying
from events.errors import BadRow, HeadraceError
from events.schedules import ScheduleRow, fire, upcoming
from events.types import Kind
from executor.worker.scheduling import Scheduler, fire_at
from tests.contract.world import World, uncommitted

pytestmark = pytest.mark.anyio

HOUR = 3600.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def row(due: float, expression: str = "0 * * * *", tz: str = "UTC", catch_up: str = "last") -> ScheduleRow:
    return ScheduleRow(1, "weekly", expression, tz, catch_up, due)


async def store(database: Database, *rows: ScheduleRow) -> None:
    async with Applying(database) as applying:
        await applying.workflow("weekly", b"h" * 32, {"workflow": "weekly"}, scheduled=rows)


async def stored(everyone: World) -> list[tuple[str, str, float]]:
    rows = await everyone.admin.fetch(
        "SELECT expression, catch_up, extract(epoch FROM next_at)::float8 FROM schedule ORDER BY 1"
    )
    return [tuple(row) for row in rows]


async def bodies(everyone: World, ids: list[UUID]) -> list[dict[str, Any]]:
    found = [await log.stream(everyone.worker, id) for id in ids]
    return [msgspec.json.decode(events[0].body or b"") for events in found]


async def test_a_time_becomes_a_delivery_for_its_workflow_alone(everyone: World) -> None:
    due = row(at("2024-04-01T05:00:00Z"), "0 7 * * 1", "Europe/Berlin")
    await store(everyone.operator, due)
    (id,) = await fire_at(everyone.relay, due, due.next_at + 0.3)
    (item,) = await everyone.work.claim("webhook", 10, 10)
    assert (item.id, item.stream_id, item.kind, item.only_workflow) == (id, id, Kind.DELIVERY, "weekly")
    assert item.receipt is not None
    facts = {"source": "schedule", "event_type": "weekly", "content_type": "application/json"}
    assert item.receipt.metadata == facts | {"schedule": "0 7 * * 1", "tz": "Europe/Berlin"}
    assert msgspec.json.decode(item.receipt.body or b"") == {
        "scheduled_for": "2024-04-01T07:00:00+02:00",
        "workflow": "weekly",
        "tz": "Europe/Berlin",
        "missed": 0,
    }
    assert await stored(everyone) == [("0 7 * * 1", "last", at("2024-04-08T05:00:00Z"))]


async def test_of_two_relays_that_saw_the_same_time_one_fires(everyone: World) -> None:
    due = row(at("2024-06-01T10:00:00Z"))
    await store(everyone.operator, due)
    async with uncommitted(everyone.relay) as first:
        first.clock = everyone.relay.clock
        assert len(await fire_at(first, due, due.next_at)) == 1
        second = asyncio.create_task(fire_at(everyone.relay, due, due.next_at))
        await everyone.someone_waits()
    assert await second == []
    assert (await everyone.count("event"), await everyone.count("work_item")) == (1, 1)


async def test_a_relay_that_dies_before_its_commit_has_done_nothing(everyone: World) -> None:
    due = row(at("2024-06-01T10:00:00Z"))
    await store(everyone.operator, due)
    with contextlib.suppress(ZeroDivisionError):
        async with uncommitted(everyone.relay) as dying:
            dying.clock = everyone.relay.clock
            assert len(await fire_at(dying, due, due.next_at)) == 1
            raise ZeroDivisionError
    assert (await everyone.count("event"), await stored(everyone)) == (0, [("0 * * * *", "last", due.next_at)])
    assert len(await fire_at(everyone.relay, due, due.next_at)) == 1


async def test_many_looks_at_once_fire_everything_once(everyone: World) -> None:
    past = at("2024-06-01T10:00:00Z")
    rows = [row(past, f"{minute} 3 * * *") for minute in range(60)]
    await store(everyone.operator, *rows)
    await asyncio.gather(*(Scheduler(everyone.relay).look() for _ in range(4)))
    assert (await everyone.count("event"), await everyone.count("work_item")) == (60, 60)
    assert (await upcoming(everyone.relay, 1)).rows[0].next_at > time.time() - HOUR


@pytest.mark.parametrize(
    ("catch_up", "hours", "missed"), [("skip", [], 0), ("last", [13], 3), ("all", [10, 11, 12, 13], 0)]
)
async def test_missed_times_are_made_up_for_as_the_schedule_says(
    everyone: World, catch_up: str, hours: list[int], missed: int
) -> None:
    due = row(at("2024-06-01T10:00:00Z"), catch_up=catch_up)
    await store(everyone.operator, due)
    found = await bodies(everyone, await fire_at(everyone.relay, due, at("2024-06-01T13:30:00Z")))
    assert [body["scheduled_for"] for body in found] == [f"2024-06-01T{hour}:00:00+00:00" for hour in hours]
    assert [body["missed"] for body in found] == [missed] * len(hours)
    assert not any("note" in body for body in found)
    assert await stored(everyone) == [("0 * * * *", catch_up, at("2024-06-01T14:00:00Z"))]


async def test_the_first_of_a_hundred_says_what_is_left_out(everyone: World) -> None:
    due = row(at("2024-06-01T10:00:00Z"), "* * * * *", catch_up="all")
    await store(everyone.operator, due)
    found = await bodies(everyone, await fire_at(everyone.relay, due, due.next_at + 119 * 60))
    assert [body["missed"] for body in found] == [20] + [0] * 99
    assert found[0]["note"] == "20 earlier times are left out: catch_up: all makes up for 100 at most"
    assert "note" not in found[1]


async def test_a_night_with_a_change_of_the_clock_fires_once(everyone: World) -> None:
    for before, text in (
        ("2024-03-30T02:30:00+01:00", "2024-03-31T03:00:00+02:00"),
        ("2024-10-26T02:30:00+02:00", "2024-10-27T02:30:00+02:00"),
    ):
        due = row(at(before), "30 2 * * *", "Europe/Berlin", "all")
        await everyone.admin.execute("DELETE FROM schedule")
        await store(everyone.operator, due)
        await fire_at(everyone.relay, due, due.next_at + HOUR)
        (left,) = (await upcoming(everyone.relay, 1)).rows
        ids = await fire_at(everyone.relay, left, left.next_at + 5 * HOUR)
        assert [body["scheduled_for"] for body in await bodies(everyone, ids)] == [text]


async def test_an_apply_changes_schedules_and_leaves_the_time_of_those_that_stay(everyone: World) -> None:
    soon, later = time.time() // 1 + 100, time.time() // 1 + 200
    await store(everyone.operator, row(soon, "1 * * * *"), row(soon, "2 * * * *"))
    await store(everyone.operator, row(later, "1 * * * *", catch_up="all"), row(later, "3 * * * *"))
    assert await stored(everyone) == [("1 * * * *", "all", soon), ("3 * * * *", "last", later)]
    await store(everyone.operator)
    assert await stored(everyone) == []


async def test_what_an_apply_took_away_does_not_fire(everyone: World) -> None:
    due = row(at("2024-06-01T10:00:00Z"))
    await store(everyone.operator, due)
    await store(everyone.operator)
    assert await fire_at(everyone.relay, due, due.next_at) == []
    assert await everyone.count("event") == 0


async def test_a_look_tells_when_to_look_again(everyone: World) -> None:
    scheduler = Scheduler(everyone.relay)
    assert await scheduler.look() == float("inf")
    await store(everyone.operator, row(time.time() + 50))
    assert 0 < await scheduler.look() <= 50
    assert await everyone.count("event") == 0


async def test_a_schedule_that_cannot_be_read_keeps_no_other_from_firing(everyone: World) -> None:
    past = at("2024-06-01T10:00:00Z")
    await store(everyone.operator, row(past - 9, tz="Mars/Olympus"), row(past - 8, "x"), row(past))
    scheduler = Scheduler(everyone.relay)
    with capture_logs() as logs:
        for _ in range(2):
            await scheduler.look()
    assert [line["schedule"] for line in logs] == ["0 * * * *", "x"]
    assert await everyone.count("event") == 1


async def test_what_the_database_refuses_keeps_no_other_from_firing(everyone: World) -> None:
    await store(everyone.operator, row(at("2024-06-01T09:00:00Z")), row(at("2024-06-01T10:00:00Z"), "0 1 * * *"))
    await everyone.admin.execute(
        "ALTER TABLE schedule ADD CHECK (expression <> '0 * * * *' OR next_at < '2024-06-02Z')",
    )
    await Scheduler(everyone.relay).look()
    assert await everyone.count("event") == 1


DUE = row(at("2024-06-01T10:00:00Z"))
LAWFUL = "2024-06-01T10:00:00+00:00"


@pytest.mark.parametrize(
    "times",
    [
        ["2999-01-01T00:00:00+00:00"],
        ["2024-06-01T09:59:59+00:00"],
        ["now"],
        ["2024-06-01T10:00:00+00:00 <script>"],
        ["2024-06-01 10:00:00"],
        [LAWFUL] * 101,
    ],
)
async def test_the_relay_cannot_fire_but_for_times_that_are_due(everyone: World, times: list[str]) -> None:
    await store(everyone.operator, DUE)
    with pytest.raises(HeadraceError):
        await fire(everyone.relay, DUE, DUE.next_at + HOUR, times, 0)
    future = row(time.time() + HOUR)
    with pytest.raises(HeadraceError):
        await fire(everyone.relay, future, future.next_at + HOUR, [], 0)
    with pytest.raises(BadRow):
        await fire(everyone.relay, DUE, DUE.next_at, [LAWFUL], 0)
    assert await everyone.count("event") == 0


async def test_the_relay_can_write_nothing_else(everyone: World) -> None:
    for statement in (
        "INSERT INTO event (stream_id, version, workspace_id, type) VALUES (gen_random_uuid(), 0, 1, 'x')",
        "INSERT INTO work_item (id, stream_id, kind, queue) SELECT uuid_floor(now()), uuid_floor(now()), 0, 'webhook'",
        "UPDATE schedule SET next_at = now()",
        "DELETE FROM schedule",
        "SELECT body FROM event",
    ):
        with pytest.raises(HeadraceError, match="permission denied"):
            await everyone.relay.fetch(statement)
    for other in (everyone.ingest, everyone.worker, everyone.operator):
        with pytest.raises(HeadraceError, match="permission denied for function fire_schedule"):
            await fire(other, DUE, DUE.next_at + HOUR, [LAWFUL], 0)
    with pytest.raises(HeadraceError, match="permission denied"):
        await everyone.worker.fetch("SELECT * FROM schedule")


async def test_the_function_is_not_led_astray_by_a_table_of_its_callers(everyone: World) -> None:
    await store(everyone.operator, DUE)
    async with uncommitted(everyone.relay) as inside:
        inside.clock = everyone.relay.clock
        await inside.fetch("CREATE TEMP TABLE event (LIKE work_item)")
        await inside.fetch("CREATE TEMP TABLE schedule (LIKE work_item)")
        assert len(await fire_at(inside, DUE, DUE.next_at)) == 1
    assert await everyone.admin.fetchval("SELECT count(*) FROM public.event") == 1
