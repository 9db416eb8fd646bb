"""The contract of refused requests: what is kept of them, and that nobody can make it fill the disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from events import rejected
from events.deliveries import DeliveryWriter
from events.errors import BadRow, HeadraceError
from events.ids import uuid7
from events.rejections import HOUR, Full, Kept, Quota, Rejection, Use, delete_old, fitting, hours_kept, keep
from events.types import Accepted
from tests.contract.conftest import Open
from tests.rows import receipt

pytestmark = pytest.mark.anyio

DAY = 24 * HOUR
WIDE = Quota(1000, 1 << 30, 75)
Owner = Callable[..., contextlib.AbstractAsyncContextManager["asyncpg.Connection[asyncpg.Record]"]]


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection that may do what no process may: it moves time."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def refused(source_id: int = 1, body: bytes = b"{}", *, sealed: bytes | None = b"sealed") -> Rejection:
    return Rejection(uuid7(time.time()), 1, source_id, "no", '{"source":"s"}', b"a: b", sealed, body)


async def age(owner: asyncpg.Connection[asyncpg.Record], seconds: float) -> None:
    """Makes all that was kept older, as time would."""
    for statement in ("UPDATE rejected SET recorded_at", "UPDATE rejected_hour SET hour"):
        column = statement.rpartition(" ")[2]
        await owner.execute(f"{statement} = {column} - make_interval(secs => $1)", seconds)


async def test_a_refused_request_is_kept_byte_for_byte(open_as: Open) -> None:
    body = bytes(range(256)) * 40
    one, empty = refused(body=body), refused(body=b"", sealed=None)
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        results = await keep(ingest, [one, empty], WIDE)
        assert [type(result) for result in results] == [Kept, Kept]
        found = await rejected.rejection(operator, one.id)
        bare = await rejected.rejection(operator, empty.id)
    assert found is not None
    assert (found.body, found.headers, found.sealed, found.reason) == (body, b"a: b", b"sealed", "no")
    assert (found.workspace_id, found.source_id, found.metadata) == (1, 1, {"source": "s"})
    assert (found.admitted_as, found.by_staff) == (None, False)
    assert bare is not None
    assert (bare.body, bare.sealed) == (b"", None)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("ingest", "SELECT body FROM rejected"),
        ("ingest", "DELETE FROM rejected"),
        ("ingest", "UPDATE rejected SET reason = ''"),
        ("ingest", "UPDATE rejected_hour SET hour = now()"),
        ("relay", "SELECT sealed FROM rejected"),
        ("worker", "SELECT id FROM rejected"),
        ("operator", "UPDATE rejected SET reason = ''"),
        ("operator", "DELETE FROM rejected"),
    ],
)
async def test_nobody_may_do_more_than_its_part(open_as: Open, role: str, statement: str) -> None:
    async with open_as(role) as database:  # type: ignore[arg-type]  # parametrized
        with pytest.raises(HeadraceError, match="permission denied"):
            await database.fetch(statement)


async def test_an_hour_has_room_for_so_many_requests(open_as: Open, owner: asyncpg.Connection[asyncpg.Record]) -> None:
    quota = Quota(5, 1 << 20, 75)
    async with open_as("ingest") as ingest:
        results = await keep(ingest, [refused() for _ in range(3)], quota)
        results += await keep(ingest, [refused() for _ in range(3)] + [refused(2)], quota)
        assert [type(result) for result in results] == [Kept] * 5 + [Full, Kept]
        assert [result.use.kept for result in results if result.use] == [1, 2, 3, 4, 5, 5, 1]
        await age(owner, HOUR)
        assert [type(result) for result in await keep(ingest, [refused()], quota)] == [Kept]


async def test_an_hour_has_room_for_so_many_bytes(open_as: Open) -> None:
    size = refused(body=b"x" * 1000).size
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        batch = [refused(body=b"x" * length) for length in (1000, 1001, 1000, 1000)]
        results = await keep(ingest, batch, Quota(100, 2 * size, 75))
        assert [type(result) for result in results] == [Kept, Full, Kept, Full]
        rows = await operator.fetch("SELECT kept, bytes FROM rejected_hour")
        assert [tuple(row) for row in rows] == [(2, 2 * size)]


def test_what_does_not_fit_leaves_its_room_to_others() -> None:
    small, large = refused(), refused(body=b"x" * 1000)
    one, two = Use(0.0, 1, small.size), Use(0.0, 2, 2 * small.size)
    quota = Quota(2, large.size - 1, 75)
    assert fitting([large, small, refused(2), small, small], {1: Use(0.0, 0, 0)}, quota) == [
        Full(Use(0.0, 0, 0)),
        Kept(one),
        Full(None),
        Kept(two),
        Full(two),
    ]


async def test_writers_at_once_do_not_exceed_the_quota(open_as: Open) -> None:
    """Eight processes, three sources, twice as much as there is room for: neither too much nor a deadlock."""
    dice = random.Random(7)
    quota = Quota(60, 120_000, 75)

    async def attack(stack: contextlib.AsyncExitStack, order: list[int]) -> int:
        ingest = await stack.enter_async_context(open_as("ingest"))
        kept = 0
        for _ in range(12):
            batch = [refused(dice.choice(order), b"x" * dice.randrange(2500)) for _ in range(6)]
            kept += sum(isinstance(result, Kept) for result in await keep(ingest, batch, quota))
        return kept

    async with contextlib.AsyncExitStack() as stack, open_as("operator") as operator:
        kept = await asyncio.gather(*(attack(stack, [1, 2, 3] if n % 2 else [3, 2, 1]) for n in range(8)))
        rows = await operator.fetch(
            "SELECT h.source_id, h.kept, h.bytes, count(r.id) AS rows "
            "FROM rejected_hour h LEFT JOIN rejected r USING (source_id) GROUP BY 1, 2, 3"
        )
        bodies = {
            one.id: len(full.body)
            for one in await rejected.rejections(operator, limit=10_000)
            if (full := await rejected.rejection(operator, one.id))
        }
    assert sum(kept) == sum(row["rows"] for row in rows) == len(bodies)
    assert len(rows) == 3
    for row in rows:
        assert row["kept"] == row["rows"] <= quota.per_hour
        assert row["bytes"] <= quota.bytes_per_hour
        # Full: nothing more of the largest size would fit, or the last row is taken.
        assert row["kept"] == quota.per_hour or row["bytes"] > quota.bytes_per_hour - 3000
    overhead = refused(body=b"").size
    assert sum(bodies.values()) + overhead * len(bodies) == sum(row["bytes"] for row in rows)


async def test_without_a_relay_nothing_grows_for_ever(open_as: Open, owner: asyncpg.Connection[asyncpg.Record]) -> None:
    retention = 2 * HOUR
    quota = Quota(1, 1 << 20, hours_kept(retention))
    assert quota.hours == 5
    async with open_as("ingest") as ingest, open_as("relay") as relay:
        for _ in range(quota.hours + 3):
            await keep(ingest, [refused(), refused(2)], quota)
            await age(owner, HOUR)
        assert await owner.fetchval("SELECT count(*) FROM rejected WHERE source_id = 1") == quota.hours
        assert await keep(ingest, [refused()], quota) == [Full(None)]
        await delete_old(relay, retention)
        assert [type(result) for result in await keep(ingest, [refused()], quota)] == [Kept]


async def test_with_a_relay_every_hour_has_its_room(open_as: Open, owner: asyncpg.Connection[asyncpg.Record]) -> None:
    retention = 3 * HOUR
    quota = Quota(1, 1 << 20, hours_kept(retention))
    async with open_as("ingest") as ingest, open_as("relay") as relay:
        for _ in range(12):
            assert [type(result) for result in await keep(ingest, [refused()], quota)] == [Kept]
            await age(owner, HOUR)
            await delete_old(relay, retention)
            assert await owner.fetchval("SELECT count(*) FROM rejected") <= 4
            assert await owner.fetchval("SELECT count(*) FROM rejected_hour") <= quota.hours


async def test_what_is_old_is_deleted_in_pieces_and_nothing_else(
    open_as: Open, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with open_as("ingest") as ingest, open_as("relay") as relay:
        await keep(ingest, [refused() for _ in range(7)], WIDE)
        await age(owner, DAY)
        await keep(ingest, [refused()], WIDE)
        assert await delete_old(relay, 2 * DAY) == 0
        assert await delete_old(relay, DAY / 2, chunk=2) == 7
        assert await owner.fetchval("SELECT count(*) FROM rejected") == 1
        assert await owner.fetchval("SELECT count(*) FROM rejected_hour") == 1
        assert await delete_old(relay, DAY / 2) == 0


async def test_an_hour_outlives_its_requests(open_as: Open, owner: asyncpg.Connection[asyncpg.Record]) -> None:
    """Or a source would have room again while what it filled before is still there."""
    async with open_as("ingest") as ingest, open_as("relay") as relay:
        await keep(ingest, [refused()], WIDE)
        await age(owner, DAY)
        async with owner.transaction():  # another relay is deleting
            await owner.execute("SELECT pg_advisory_xact_lock(hashtextextended('headrace.rejected', 0))")
            assert await delete_old(relay, HOUR) == 0
            assert await relay.fetchval("SELECT count(*) FROM rejected_hour") == 1
        assert await delete_old(relay, HOUR) == 1
        assert await relay.fetchval("SELECT count(*) FROM rejected_hour") == 0


async def test_a_row_that_cannot_be_stored_keeps_nothing_of_its_batch_and_uses_nothing_up(open_as: Open) -> None:
    bad = Rejection(uuid7(time.time()), 1, 1, "nul \0", "{}", b"", None, b"")
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        with pytest.raises(BadRow):
            await keep(ingest, [refused(), bad], WIDE)
        assert await operator.fetchval("SELECT count(*) FROM rejected") == 0
        assert await operator.fetchval("SELECT coalesce(sum(kept), 0) FROM rejected_hour") == 0


async def test_the_list_is_newest_first_by_source_and_by_page(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        for slug in ("one", "two"):
            await operator.fetch(
                "INSERT INTO source (workspace_id, slug, definition, secrets) VALUES (1, $1, '{}', '{}')", slug
            )
        ids = {row["slug"]: row["id"] for row in await operator.fetch("SELECT id, slug FROM source")}
        batch = [refused(ids["one"]), refused(ids["two"]), refused(ids["one"])]
        await keep(ingest, batch, WIDE)
        newest = [one.id for one in sorted(batch, key=lambda one: one.id, reverse=True)]
        listed = await rejected.rejections(operator)
        assert [one.id for one in listed] == newest
        assert all((one.body, one.headers, one.sealed) == (b"", b"", None) for one in listed)
        assert [one.id for one in await rejected.rejections(operator, before=newest[0], limit=1)] == newest[1:2]
        of_two = await rejected.rejections(operator, source="two")
        assert [(one.id, one.source) for one in of_two] == [(batch[1].id, "two")]
        assert await rejected.rejections(operator, source="none") == []


async def test_the_note_says_which_delivery_a_request_became(open_as: Open) -> None:
    one, other = refused(), refused()
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        await keep(ingest, [one, other], WIDE)
        assert await rejected.first_delivery(operator, 1, receipt("k").key) is None
        made = receipt("k", metadata=json.dumps({"rejected": str(one.id)}))
        (appended,) = await DeliveryWriter(operator).write([made])
        assert isinstance(appended, Accepted)
        assert await rejected.first_delivery(operator, 1, made.key) == appended.id
        for _ in range(2):  # again, as after a crash
            assert await rejected.admitted(operator, one.id, appended.id)
        assert not await rejected.admitted(operator, other.id, appended.id)
        states = {r.id: (r.admitted_as, r.by_staff) for r in await rejected.rejections(operator)}
        assert states == {one.id: (appended.id, True), other.id: (appended.id, False)}
        assert await rejected.rejections(operator, pending=True) == []
