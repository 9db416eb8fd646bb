"""The contract of spool and log: whatever was in doubt, it is in the real log once, with its items and its work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from events.database import Database
from events.deliveries import DeliveryWriter
from events.types import Accepted, Duplicate, Receipt
from ingest.keeper import Keeper, keeper_of
from ingest.readiness import Ready
from ingest.spool import Spool
from tests.contract.conftest import Open
from tests.rows import batch, nonced, receipt
from tests.system import until

pytestmark = pytest.mark.anyio


async def spooled(directory: Path, receipts: list[Receipt]) -> None:
    """As an ingest leaves them that was killed while PostgreSQL was away."""
    spool = Spool(directory, 1 << 30)
    answers = await asyncio.gather(*[spool.append(row) for row in receipts])
    assert answers == [Accepted(row.stream_id) for row in receipts]
    await spool.close()


async def drained(ingest: Database, directory: Path) -> int:
    """How many rows are left once receipts go straight to the log."""
    spool = Spool(directory, 1 << 30)
    keeper: Keeper = keeper_of(ingest, spool, max_waiting=10)
    keeper.start()

    async def direct() -> bool:
        return isinstance(await keeper.readiness(), Ready)

    await until(direct, "the spool is drained", 20)
    left = spool.rows + spool.refused
    await keeper.close()
    return left


def every_kind() -> list[Receipt]:
    return [
        receipt(body=b"wheel " * 5000),
        batch("a", "b", "c"),
        nonced("n"),
        msgspec.structs.replace(receipt(), routed=False),
        *[receipt() for _ in range(30)],
    ]


async def facts(operator: Database) -> list[tuple[object, ...]]:
    query = """
      SELECT e.stream_id, e.body, w.id IS NOT NULL FROM event e LEFT JOIN work_item w USING (stream_id)
      ORDER BY e.position
    """
    return [tuple(row) for row in await operator.fetch(query)]


@pytest.mark.parametrize("doubtful", [0, 3, 34], ids=["none", "some", "all"])
async def test_what_was_committed_and_not_answered_is_there_once(open_as: Open, tmp_path: Path, doubtful: int) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        rows = every_kind()
        assert len(rows) == 34
        if doubtful:
            await DeliveryWriter(ingest).write(rows[:doubtful])
        await spooled(tmp_path / "spool", rows)
        assert await drained(ingest, tmp_path / "spool") == 0
        there = await facts(operator)
        order = [id for id, *_ in there]
        assert len(order) == len(set(order)) == len(rows) + 3
        assert [id for id in order if id in {row.stream_id for row in rows}] == [row.stream_id for row in rows]
        assert {id for id, _, works in there if not works} == {rows[1].stream_id, rows[3].stream_id}
        assert {item.stream_id for item in rows[1].items} <= set(order)


async def test_what_the_log_refuses_stays_and_the_rest_goes(open_as: Open, tmp_path: Path) -> None:
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        rows = every_kind()
        rows[9] = msgspec.structs.replace(rows[9], metadata='{"zero": "\\u0000"}')  # jsonb has no such character
        await spooled(tmp_path / "spool", rows)
        assert await drained(ingest, tmp_path / "spool") == 1
        assert rows[9].stream_id not in {id for id, *_ in await facts(operator)}
        assert len(await facts(operator)) == len(rows) + 3 - 1


@pytest.mark.parametrize("known", [True, False], ids=["the log knew the first", "all came in the outage"])
async def test_nonces_that_came_in_an_outage_are_used_up(open_as: Open, tmp_path: Path, known: bool) -> None:
    """Forged ones too, with a nonce that only the log knew: they take nothing away from the real ones."""
    async with open_as("ingest") as ingest, open_as("operator") as operator:
        first, again = nonced("t", "e1"), nonced("u", "e1")
        forged, real = nonced("t", "e2"), nonced("v", "e2")
        writer = DeliveryWriter(ingest)
        if known:
            await writer.write([first])
        spool = Spool(tmp_path / "spool", 1 << 30)
        for row in [forged, again, real] if known else [first, again, forged, real]:
            await spool.append(row)
        await spool.close()
        assert await drained(ingest, tmp_path / "spool") == 0
        assert {id for id, *_ in await facts(operator)} == {first.stream_id, real.stream_id}
        assert await writer.write([nonced("u", "e3"), nonced("v", "e4")]) == [
            Duplicate(first.stream_id),
            Duplicate(real.stream_id),
        ]


async def test_reaching_anew_leaves_connections_that_lead_nowhere(open_as: Open) -> None:
    async with open_as("ingest") as ingest:
        before = await ingest.fetchval("SELECT pg_backend_pid()")
        assert await ingest.fetchval("SELECT pg_backend_pid()") == before
        await ingest.reach()
        assert await ingest.fetchval("SELECT pg_backend_pid()") != before
        assert await ingest.fetchval("SELECT current_user") == "headrace_ingest"
