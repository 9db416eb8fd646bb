"""Snapshots are only a cache: whatever is wrong with one, the state is that of the whole log. A long run that has one
reads its tail and no more.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
import pytest
import redis.asyncio as redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import log
from events.database import Database
from events.ids import uuid7
from executor.engine.run import SNAPSHOT_EVERY
from executor.engine.snapshots import CODEC, REDUCER, Snapshot, Snapshots, pack
from executor.testing import Bench
from executor.workflow.facts import ItemEnded, NodeCompleted, NodeMapped, RunFact, RunStarted, encode
from executor.workflow.state import Done, RunState, evolve
from tests.contract.world import World

pytestmark = pytest.mark.anyio

LARGE = 5_000_000


def story(items: int) -> list[RunFact]:
    """A run in the middle of a map that has gone through `items`."""
    facts: list[RunFact] = [RunStarted("w", "00", UUID(int=1), 1.0), NodeMapped("m", items + 1)]
    for index in range(items):
        facts += [NodeCompleted(f"m[{index}].a", 1, {"n": index}), ItemEnded("m", index, {"n": index})]
    return facts


def folded(facts: Sequence[RunFact]) -> RunState:
    state: RunState | None = None
    for fact in facts:
        state = evolve(state, fact)
    assert state is not None
    return state


async def copy(everyone: World, id: UUID, facts: Sequence[RunFact], first: int = 0) -> None:
    """Into the log, in one statement."""
    encoded = [encode(fact) for fact in facts]
    await everyone.admin.execute(
        "INSERT INTO event (stream_id, version, workspace_id, type, codec, body) "
        "SELECT $1, $2 + n - 1, 1, type, 0, body "
        "FROM unnest($3::text[], $4::bytea[]) WITH ORDINALITY AS t(type, body, n)",
        id,
        first,
        [type for type, _ in encoded],
        [body for _, body in encoded],
    )


class Counting(Database):
    """A database that counts the rows which it was asked for."""

    rows = 0

    async def fetch(self, statement: str, *arguments: Any, **more: Any) -> Any:
        found = await super().fetch(statement, *arguments, **more)
        self.rows += len(found)
        return found


@pytest.fixture
async def counting(everyone: World, database_url: str) -> AsyncIterator[Counting]:
    database = Counting(database_url, "worker")
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def snapshots(counting: Counting, redis_urls: tuple[str, str]) -> AsyncIterator[Snapshots]:
    made = Snapshots(redis_urls[1], counting)
    yield made
    await made.close()


async def put(redis_url: str, id: UUID, data: bytes, version: int) -> None:
    """A snapshot as somebody left it."""
    client = redis.Redis.from_url(redis_url)
    await client.hset(f"headrace:snapshot:{id}", mapping={"version": version, "data": data})
    await client.aclose()


async def test_a_run_of_100_000_events_reads_its_tail(
    everyone: World, counting: Counting, snapshots: Snapshots, redis_urls: tuple[str, str]
) -> None:
    id, facts = uuid7(time.time()), story(50_000)
    await copy(everyone, id, facts[:-SNAPSHOT_EVERY])
    await snapshots.save(id, folded(facts[:-SNAPSHOT_EVERY]))
    await copy(everyone, id, facts[-SNAPSHOT_EVERY:], len(facts) - SNAPSHOT_EVERY)
    counting.rows = 0
    state = await snapshots.load(id)
    assert counting.rows <= SNAPSHOT_EVERY + 1
    assert state == folded(facts)
    nowhere = Snapshots("redis://127.0.0.1:1/0", counting)
    counting.rows = 0
    assert await nowhere.load(id) == state
    assert counting.rows == len(facts)
    await nowhere.close()
    client = redis.Redis.from_url(redis_urls[1])
    assert len(await client.hget(f"headrace:snapshot:{id}", "data") or b"") < 65_536
    await client.aclose()


async def test_a_snapshot_that_does_not_fit_is_as_good_as_none(
    everyone: World, counting: Counting, snapshots: Snapshots, redis_urls: tuple[str, str]
) -> None:
    id, other, facts = uuid7(time.time()), uuid7(time.time() + 1), story(20)
    await copy(everyone, id, facts)
    await copy(everyone, other, story(30))
    anchor = await log.anchor(everyone.operator, id, 10)
    foreign = await log.anchor(everyone.operator, other, 10)
    assert anchor is not None
    assert foreign is not None
    lie = msgspec.structs.replace(folded(facts[:11]), error="a lie")
    fits = Snapshot(CODEC, REDUCER, id, anchor, lie)

    await put(redis_urls[1], id, pack(fits), 10)
    believed = await snapshots.load(id)
    assert believed is not None
    assert believed.error == "a lie"  # so what follows shows something
    ahead = msgspec.structs.replace(lie, version=500)
    wrong = {
        "another fold": pack(msgspec.structs.replace(fits, reducer=REDUCER + 1)),
        "another codec": pack(msgspec.structs.replace(fits, codec=CODEC + 1)),
        "another run's": pack(msgspec.structs.replace(fits, run_id=other)),
        "another log's, at the same version": pack(msgspec.structs.replace(fits, anchor=foreign)),
        "ahead of the log": pack(msgspec.structs.replace(fits, state=ahead, anchor=(anchor[0], anchor[1] + 490))),
        "truncated": pack(fits)[:-7],
        "flipped": pack(fits)[:40] + bytes([pack(fits)[40] ^ 4]) + pack(fits)[41:],
        "empty": b"",
    }
    for what, data in wrong.items():
        await put(redis_urls[1], id, data, 10)
        assert await snapshots.load(id) == folded(facts), what


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cut=st.integers(1, 50), items=st.integers(1, 25))
def test_any_prefix_and_its_tail_are_the_whole_fold(cut: int, items: int) -> None:
    facts = story(items)
    cut = min(cut, len(facts) - 1)
    data = msgspec.msgpack.encode(folded(facts[:cut]))
    state = msgspec.msgpack.decode(data, type=RunState)
    for fact in facts[cut:]:
        state = evolve(state, fact)
    assert state == folded(facts)


def test_a_large_output_stays_in_its_event() -> None:
    nodes = {
        "fetch": {"uses": "http.request", "with": {"url": "https://a.example"}},
        "count": {"uses": "transform", "needs": ["fetch"], "with": {"value": "${{ size(nodes.fetch.output.body) }}"}},
    }
    bench = Bench(
        [{"workflow": "w", "on": [{"source": "s"}], "nodes": nodes}],
        stubs={"http.request": {"status": 200, "headers": {}, "body": "x" * LARGE}},
    )
    run = bench.deliver("s")
    assert (run.status, run.outputs["count"]) == ("completed", LARGE)
    state = folded(run.facts)
    assert isinstance(fetched := state.nodes["fetch"], Done)
    assert fetched.large > LARGE
    assert len(msgspec.msgpack.encode(state)) < 2_000
