"""The contract of the work list and of fenced appends, rule by rule."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from events import log
from events.claims import next_due
from events.database import Database
from events.errors import BadRow
from events.runs import Finish, Keep, NewEvent, RunAppend, RunWriter, Then, Yield
from events.types import Kind
from events.work import WorkList
from tests.contract.conftest import Open
from tests.rows import deliver, start_run

pytestmark = pytest.mark.anyio

FACT = "node.completed"


def worklist(database: Database, owner: str = "me", lease: float = 30.0) -> WorkList:
    return WorkList(database, owner=owner, lease=lease)


def writer(database: Database) -> RunWriter:
    return RunWriter(database, owner="me", lease=30.0)


def step(id: UUID, token: int, version: int, then: Then | None = None) -> RunAppend:
    return RunAppend(id, token, version, "running", (NewEvent(version, FACT, b"{}"),), then or Keep())


async def expire(database_url_owner: Database, id: UUID) -> None:
    """Makes a lease run out now, as time would."""
    await database_url_owner.fetch("UPDATE work_item SET due_at = now() - interval '1 s' WHERE id = $1", id)


async def test_a_claim_takes_what_is_due_once(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        ids = await deliver(ingest, 5)
        claimed = await worklist(worker).claim("webhook", 3, 1)
        rest = await worklist(worker).claim("webhook", 10, 1)
        assert {item.id for item in claimed + rest} == set(ids)
        assert (len(claimed), len(rest)) == (3, 2)
        assert all((item.token, item.attempt, item.kind) == (1, 1, Kind.DELIVERY) for item in claimed)
        assert all(item.receipt is not None and item.receipt.body == b"{}" for item in claimed)
        assert await worklist(worker).claim("webhook", 10, 1) == []


async def test_claims_are_oldest_first_and_of_one_queue(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        first = await deliver(ingest, 2)
        second = await deliver(ingest, 2)
        assert await worklist(worker).claim("default", 10, 1) == []
        assert {item.id for item in await worklist(worker).claim("webhook", 2, 1)} == set(first)
        assert {item.id for item in await worklist(worker).claim("webhook", 2, 1)} == set(second)


async def test_concurrent_claims_share_out_and_never_double(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        ids = await deliver(ingest, 200)
        claims = await asyncio.gather(*[worklist(worker, f"w{n}").claim("webhook", 30, 1) for n in range(8)])
        claims.append(await worklist(worker).claim("webhook", 200, 1))
        taken = [item.id for claim in claims for item in claim]
        assert sorted(taken) == sorted(ids)


async def test_a_lease_that_runs_out_gives_the_item_to_the_next_with_a_new_token(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        (id,) = await deliver(ingest)
        await worklist(worker).claim("webhook", 1, 1)
        await expire(worker, id)
        (item,) = await worklist(worker, "other").claim("webhook", 1, 1)
        assert (item.token, item.attempt) == (2, 2)


async def test_renewal_keeps_what_is_held_and_tells_what_is_lost(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        await deliver(ingest, 2)
        mine = await worklist(worker).claim("webhook", 2, 1)
        await expire(worker, mine[0].id)
        (theirs,) = await worklist(worker, "other").claim("webhook", 1, 1)
        assert theirs.id == mine[0].id
        assert await worklist(worker).renew([(item.id, item.token) for item in mine]) == {mine[1].id}
        assert await worklist(worker).renew([]) == set()


async def test_failing_makes_it_due_later_and_counts(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        await deliver(ingest)
        work = worklist(worker)
        (item,) = await work.claim("webhook", 1, 1)
        assert await work.fail([(item.id, item.token)], 60.0, "boom") == {item.id}
        assert await work.claim("webhook", 1, 1) == []
        assert 58 < (await next_due(worker, ["webhook"]))["webhook"] <= 60
        assert await work.fail([(item.id, item.token)], 0.0, "late") == set(), "the token went up"
        await expire(worker, item.id)
        (again,) = await work.claim("webhook", 1, 1)
        assert (again.attempt, again.error) == (2, "boom")


async def test_giving_back_blames_nobody(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        await deliver(ingest)
        work = worklist(worker)
        (item,) = await work.claim("webhook", 1, 1)
        assert await work.give_back([(item.id, item.token)]) == {item.id}
        (again,) = await work.claim("webhook", 1, 1)
        assert (again.attempt, again.token) == (1, item.token + 2)


async def test_suspects_come_one_at_a_time(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        work = worklist(worker)
        await deliver(ingest, 4)
        for _ in range(2):  # two deaths without progress
            for item in await work.claim("webhook", 10, 10):
                await expire(worker, item.id)
        fresh = await deliver(ingest, 2)
        assert {item.id for item in await work.claim("webhook", 10, 0)} == set(fresh)
        assert len(await work.claim("webhook", 10, 1)) == 1
        assert len(await work.claim("webhook", 10, 2)) == 2


async def test_next_due_tells_the_first_of_each_queue(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker, open_as("relay") as relay:
        assert await next_due(relay, ["webhook", "default"]) == {}
        await deliver(ingest, 2)
        assert (await next_due(relay, ["webhook", "default"]))["webhook"] <= 0
        await worklist(worker).claim("webhook", 2, 1)
        assert 29 < (await next_due(relay, ["webhook"]))["webhook"] <= 30


async def test_an_append_with_the_current_token_is_written(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        id = await start_run(ingest, worker)
        assert await writer(worker).append([step(id, 1, 1)]) == [True]
        assert [event.type for event in await log.stream(worker, id)] == ["run.started", FACT]
        head = (await worker.fetch("SELECT version, status FROM run WHERE id = $1", id))[0]
        assert (head["version"], head["status"]) == (1, "running")


@pytest.mark.parametrize("then", [Keep(), Finish(), Yield(0.0)])
async def test_an_append_with_a_stale_token_changes_nothing(open_as: Open, then: Then) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        id = await start_run(ingest, worker)
        await expire(worker, id)
        (theirs,) = await worklist(worker, "other").claim("webhook", 1, 1)
        before = await worker.fetch("SELECT * FROM run JOIN work_item USING (id)")
        assert await writer(worker).append([step(id, 1, 1, then)]) == [False]
        assert await worker.fetch("SELECT * FROM run JOIN work_item USING (id)") == before
        assert len(await log.stream(worker, id)) == 1
        assert await writer(worker).append([step(id, theirs.token, 1)]) == [True]


async def test_in_a_batch_only_the_stale_run_is_left_out(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        ids = [await start_run(ingest, worker) for _ in range(3)]
        assert await writer(worker).append([step(ids[0], 1, 1), step(ids[1], 9, 1), step(ids[2], 1, 1)]) == [
            True,
            False,
            True,
        ]


async def test_two_rows_of_one_run_in_a_batch_are_told_apart_by_their_tokens(open_as: Open) -> None:
    """The process that lost a run and claimed it again may have both in its journal."""
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        id = await start_run(ingest, worker)
        await expire(worker, id)
        (again,) = await worklist(worker).claim("webhook", 1, 1)
        late = RunAppend(id, 1, 0, "waiting", (), Yield(4e9))
        assert await writer(worker).append([late, step(id, again.token, 1)]) == [False, True]
        assert await writer(worker).append([step(id, again.token, 2), late]) == [True, False]
        assert len(await log.stream(worker, id)) == 3
        assert await worker.fetchval("SELECT version FROM run WHERE id = $1", id) == 2


async def test_finish_removes_the_work_and_yield_lets_it_go(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        done, asleep = [await start_run(ingest, worker) for _ in range(2)]
        rows = [step(done, 1, 1, Finish()), step(asleep, 1, 1, Yield(0.0))]
        assert await writer(worker).append(rows) == [True, True]
        items = {row["id"]: row for row in await worker.fetch("SELECT * FROM work_item")}
        assert done not in items
        assert (items[asleep]["token"], items[asleep]["owner"], items[asleep]["attempt"]) == (2, None, 0)
        assert await writer(worker).append([step(asleep, 1, 2)]) == [False], "who let go may not write"


async def test_a_version_that_exists_is_refused_whole(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        id = await start_run(ingest, worker)
        with pytest.raises(BadRow):
            await writer(worker).append([step(id, 1, 0, Finish())])
        assert await worker.fetchval("SELECT count(*) FROM work_item WHERE id = $1", id) == 1


async def test_progress_clears_a_run_of_suspicion(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        id = await start_run(ingest, worker)
        work, attempts = worklist(worker), []
        for version in (1, 2, 2, 2):
            await expire(worker, id)
            (item,) = await work.claim("webhook", 1, 1)
            attempts.append(item.attempt)
            if version > len(await log.stream(worker, id)) - 1:
                await writer(worker).append([step(id, item.token, version)])
        assert attempts == [2, 1, 1, 2], "an event since the last claim starts the count again"


async def test_a_run_for_another_queue_waits_there(open_as: Open) -> None:
    async with open_as("ingest") as ingest, open_as("worker") as worker:
        id = await start_run(ingest, worker, leased=False, queue="default")
        (item,) = await worklist(worker).claim("default", 1, 1)
        assert (item.id, item.token, item.kind) == (id, 1, Kind.RUN)
        assert item.receipt is not None


async def test_races_of_append_against_claim_let_no_stale_write_in(open_as: Open) -> None:
    """Each round, an append with the old token and a claim that makes it stale start together."""
    async with open_as("ingest") as ingest, open_as("worker") as one, open_as("worker") as two:
        stale = 0
        for _ in range(60):
            id = await start_run(ingest, one)
            await expire(one, id)
            claim, (written,) = await asyncio.gather(
                worklist(two, "other").claim("webhook", 1, 1), writer(one).append([step(id, 1, 1)])
            )
            events = await log.stream(one, id)
            assert len(events) == (2 if written else 1)
            if claim:
                stale += not written
                assert await writer(one).append([step(id, 1, len(events))]) == [False]
                await writer(two).append([step(id, claim[0].token, len(events), Finish())])
            else:
                await writer(one).append([step(id, 1, len(events), Finish())])
        assert stale > 0, "the race was never run"
