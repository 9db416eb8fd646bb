"""Claims are fair between workspaces, and stay within the limit of each."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from uuid import UUID

import pytest

from events import workspaces
from events.claims import next_due
from events.errors import ConfigError, NotFound
from events.ids import uuid7
from events.runs import Finish, Yield
from events.types import Kind, WorkItem
from events.work import WorkList
from tests.contract.world import World, step

pytestmark = pytest.mark.anyio

_RUNS = """
WITH new AS (
  INSERT INTO run (id, workspace_id, workflow, workflow_hash, status, version)
  SELECT id, $1, 'w', 'hash', 'running', 0 FROM unnest($2::uuid[]) AS t(id) RETURNING id),
work AS (
  INSERT INTO work_item (id, stream_id, kind, queue, workspace_id, due_at)
  SELECT id, id, 2, $3, $1, now() - interval '1 s' - row_number() OVER () * interval '1 ms' FROM new)
SELECT id FROM new
"""
_SLOTS = "SELECT count(*) FROM work_item WHERE workspace_id = $1 AND slot AND owner IS NOT NULL"


async def due(everyone: World, workspace: int, count: int, queue: str = "webhook") -> list[UUID]:
    """Runs of a workspace that anybody may claim."""
    ids = [uuid7(time.time()) for _ in range(count)]
    return [row[0] for row in await everyone.admin.fetch(_RUNS, workspace, ids, queue)]


async def limited(everyone: World, limit: int, slug: str = "small") -> int:
    return await workspaces.add(everyone.operator, slug, "free", limit)


def whose(items: list[WorkItem]) -> Counter[int]:
    return Counter(item.workspace_id for item in items)


async def let_go(everyone: World, item: WorkItem, how: str) -> None:
    """Each way in which a held run is let go."""
    held = [(item.id, item.token)]
    match how:
        case "ended":
            assert await everyone.writer.append([step(item.id, item.token, then=Finish())]) == [True]
        case "asleep":
            assert await everyone.writer.append([step(item.id, item.token, then=Yield(0.0))]) == [True]
        case "failed":
            await everyone.work.fail(held, 0.0, "oh")
        case "given back":
            await everyone.work.give_back(held)
        case "discarded":
            await everyone.work.discard(held)


async def test_workspaces_take_turns_within_a_claim_and_from_claim_to_claim(everyone: World) -> None:
    await due(everyone, 1, 100)
    other = await workspaces.add(everyone.operator, "other", "unlimited")
    third = await workspaces.add(everyone.operator, "third", "unlimited")
    await due(everyone, other, 3)
    await due(everyone, third, 10)
    assert whose(await everyone.work.claim("webhook", 9, 0)) == {1: 3, other: 3, third: 3}
    alone = [(await everyone.work.claim("webhook", 1, 0))[0].workspace_id for _ in range(6)]
    assert alone == [1, third, 1, third, 1, third]
    assert whose(await everyone.work.claim("webhook", 10, 0)) == {1: 6, third: 4}
    assert whose(await everyone.work.claim("webhook", 100, 0)) == {1: 88}, "no place stays empty"


async def test_a_workspace_holds_no_more_runs_than_its_limit_and_no_fewer(everyone: World) -> None:
    small = await limited(everyone, 3)
    await due(everyone, small, 10)
    await due(everyone, small, 2, "default")
    claimed = await everyone.work.claim("webhook", 128, 1)
    assert [item.slot for item in claimed] == [True] * 3
    assert await everyone.work.claim("webhook", 128, 1) == []
    assert await everyone.work.claim("default", 128, 1) == [], "the limit is the workspace's, not a queue's"
    for how in ("ended", "asleep", "failed", "given back", "discarded"):
        await let_go(everyone, claimed.pop(), how)
        claimed += await everyone.work.claim("webhook", 128, 1)
        assert len(claimed) == 3, how
        assert await everyone.admin.fetchval(_SLOTS, small) == 3


async def test_runs_without_a_limit_take_no_slot(everyone: World) -> None:
    await due(everyone, 1, 20)
    claimed = await everyone.work.claim("webhook", 128, 1)
    assert [item.slot for item in claimed] == [False] * 20


async def test_a_lease_that_ran_out_keeps_its_slot_until_it_is_claimed_again(everyone: World) -> None:
    small = await limited(everyone, 2)
    await due(everyone, small, 10)
    dead = await everyone.work.claim("webhook", 2, 0)
    await everyone.admin.execute("UPDATE work_item SET due_at = now() WHERE owner IS NOT NULL")
    again = await everyone.work.claim("webhook", 128, 0)
    assert {item.id for item in again} == {item.id for item in dead}, "a dead worker's runs go on, in their own slots"
    assert await everyone.admin.fetchval(_SLOTS, small) == 2
    assert await everyone.work.claim("webhook", 128, 0) == []
    await everyone.admin.execute("UPDATE work_item SET due_at = now() WHERE id = $1", dead[0].id)
    assert await everyone.work.renew([(dead[0].id, dead[0].token)]) == set(), "the one that was dead has lost it"


async def test_suspects_take_slots_too(everyone: World) -> None:
    small = await limited(everyone, 2)
    runs = await due(everyone, small, 6)
    await everyone.admin.execute("UPDATE work_item SET attempt = 2 WHERE id = ANY ($1)", runs[:3])
    assert len(await everyone.work.claim("webhook", 128, 3)) == 2
    assert await everyone.work.claim("webhook", 128, 3) == []
    assert await everyone.admin.fetchval(_SLOTS, small) == 2


async def test_deliveries_are_routed_behind_runs_that_wait_for_a_place(everyone: World) -> None:
    small = await limited(everyone, 1)
    await due(everyone, small, 200)
    assert len(await everyone.work.claim("webhook", 128, 1)) == 1
    await everyone.admin.execute(
        "INSERT INTO work_item (id, stream_id, kind, queue, workspace_id) "
        "SELECT gen_random_uuid(), gen_random_uuid(), 0, 'webhook', $1 FROM generate_series(1, 5)",
        small,
    )
    assert [item.kind for item in await everyone.work.claim("webhook", 128, 1)] == [Kind.DELIVERY] * 5


async def test_nobody_is_rung_for_what_waits_for_a_place(everyone: World) -> None:
    small = await limited(everyone, 1)
    await due(everyone, small, 5)
    assert (await next_due(everyone.relay, ["webhook"]))["webhook"] < 0
    (held,) = await everyone.work.claim("webhook", 128, 1)
    assert 25 < (await next_due(everyone.relay, ["webhook"]))["webhook"] <= 30, "when the holder's lease ends"
    await let_go(everyone, held, "ended")
    assert (await next_due(everyone.relay, ["webhook"]))["webhook"] < 0


async def test_a_run_says_what_it_waits_for(everyone: World) -> None:
    small = await limited(everyone, 1)
    runs = await due(everyone, small, 3)
    assert await workspaces.waits_for_place(everyone.operator, runs[0]) is None, "there is a place"
    (held,) = await everyone.work.claim("webhook", 128, 1)
    waiting = [await workspaces.waits_for_place(everyone.operator, run) for run in runs]
    assert sorted(str(one) for one in waiting if one) == [
        "a place of workspace small: 1 of 1 are taken, 0 runs before",
        "a place of workspace small: 1 of 1 are taken, 1 runs before",
    ]
    assert waiting[runs.index(held.id)] is None
    (_, shown) = await workspaces.workspaces(everyone.operator)
    assert (shown.slug, shown.concurrency, shown.running, shown.waiting) == ("small", 1, 1, 2)


async def test_claims_at_the_same_time_never_add_up_to_more_than_the_limit(everyone: World) -> None:
    """Property, over many races: never above the limit; and once nobody else claims, no slot is free while a run
    waits."""
    chance = random.Random(7)
    small = await limited(everyone, 5)
    await due(everyone, small, 150)
    lists = [WorkList(everyone.worker, owner=f"worker {number}", lease=30.0) for number in range(6)]
    held: list[WorkItem] = []
    races = 0
    while await everyone.admin.fetchval("SELECT count(*) FROM work_item"):
        claims = await asyncio.gather(*(one.claim("webhook", chance.randint(1, 5), 1) for one in lists))
        races += sum(bool(claim) for claim in claims) > 1
        held += [item for claim in claims for item in claim]
        slots = await everyone.admin.fetchval(_SLOTS, small)
        assert slots == len(held) <= 5
        held += await lists[0].claim("webhook", 128, 1)
        left = await everyone.admin.fetchval("SELECT count(*) FROM work_item WHERE owner IS NULL")
        assert len(held) == 5 or left == 0
        chance.shuffle(held)
        for item in [held.pop() for _ in range(min(len(held), chance.randint(1, 5)))]:
            await let_go(everyone, item, "ended")
    assert races, "claims were made at the same time"


async def test_workspaces_are_named_once_and_found_by_name(everyone: World) -> None:
    ids = await asyncio.gather(*(workspaces.add(everyone.operator, f"w{number}", "free") for number in range(5)))
    assert len(set(ids)) == 5
    with pytest.raises(ConfigError, match="expected a name that is free"):
        await workspaces.add(everyone.operator, "w1", "free")
    with pytest.raises(ConfigError, match="expected one of free, pro, unlimited, got 'gold'"):
        await workspaces.add(everyone.operator, "gold", "gold")
    with pytest.raises(NotFound, match="expected one of default, w"):
        await workspaces.workspace_id(everyone.operator, "nowhere")
    before = await everyone.operator.fetchval("SELECT epoch FROM config")
    await workspaces.change(everyone.operator, "w0", "pro")
    assert await everyone.operator.fetchval("SELECT epoch FROM config") == before + 1
    assert await workspaces.limited(everyone.worker) == set(ids)
    await workspaces.change(everyone.operator, "w0", "unlimited")
    assert await workspaces.limited(everyone.worker) == set(ids) - {ids[0]}
