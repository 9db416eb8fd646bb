"""The cache of nodes' results against a real Redis: what serves, what does not, who calls, and what a failure costs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio as redis
from redis import Redis

from executor.cli.main import main
from executor.engine import cache, cache_store
from executor.engine.cache import NodeCache, cache_key
from executor.engine.cache_store import CacheStore, Found
from executor.testing import bench as benches
from executor.testing import crash_matrix, matrix
from executor.workflow.definition import Caching
from executor.workflow.outcomes import Completed, Deferred, Failed, Outcome

pytestmark = pytest.mark.anyio
KEY = cache_key(1, "crm.lookup", 1, {"id": 7}) or ""
TEN = Caching(600.0)
STALE = Caching(600.0, None, 3600.0)
Call = Callable[[], Awaitable[Outcome]]


class Watched(CacheStore):
    """A store that tells how often it was asked."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.looks: list[Found | None] = []
        self.looked = asyncio.Condition()

    async def look(self, key: str, ttl: float) -> Found | None:
        found = await super().look(key, ttl)
        self.looks.append(found)
        async with self.looked:
            self.looked.notify_all()
        return found

    async def asked(self, times: int) -> None:
        async with asyncio.timeout(20.0), self.looked:
            await self.looked.wait_for(lambda: len(self.looks) >= times)


class Source:
    """What is called. `gate`: answers only once it is set."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> Outcome:
        self.calls += 1
        self.called.set()
        await self.gate.wait()
        return self.outcomes.pop(0) if self.outcomes else Completed({"n": self.calls})


@pytest.fixture
async def raw(redis_urls: tuple[str, str]) -> AsyncIterator[redis.Redis]:
    client = redis.Redis.from_url(redis_urls[1])
    yield client
    for key in await client.keys("*"):
        assert await client.pttl(key) > 0, f"{key!r} goes by itself"
    await client.aclose()


@pytest.fixture
async def stores(redis_urls: tuple[str, str], raw: redis.Redis) -> AsyncIterator[tuple[Watched, Watched]]:
    """Two clients, as two workers have them."""
    pair = Watched(redis_urls[1]), Watched(redis_urls[1])
    yield pair
    for store in pair:
        await store.aclose()


async def ask(store: CacheStore, call: Call, caching: Caching = TEN, timeout: float = 30.0, key: str = KEY) -> Outcome:
    return await NodeCache(store).through(key, caching, call, timeout=timeout, flying=set())


async def age(raw: redis.Redis, seconds: float, caching: Caching) -> None:
    """Makes the entry as old as that."""
    await raw.pexpire(KEY, round((caching.ttl + caching.stale - seconds) * 1000))


async def test_a_result_serves_until_its_time_is_up(stores: tuple[Watched, Watched], raw: redis.Redis) -> None:
    source = Source()
    assert await ask(stores[0], source) == Completed({"n": 1}, 0, "miss")
    assert await ask(stores[1], source) == Completed({"n": 1}, 0, "hit")
    await age(raw, 599.0, TEN)
    assert await ask(stores[1], source) == Completed({"n": 1}, 0, "hit")
    assert await ask(stores[1], source, Caching(598.0)) == Completed({"n": 2}, 0, "miss"), "the reader's own ttl counts"
    await raw.delete(KEY)
    assert await ask(stores[1], source) == Completed({"n": 3}, 0, "miss")


async def test_a_large_output_is_still_known_as_large(stores: tuple[Watched, Watched]) -> None:
    text = "x" * 100_000
    await ask(stores[0], Source(Completed({"text": text}, 100_011)))
    assert await ask(stores[0], Source()) == Completed({"text": text}, 100_011, "hit")


@pytest.mark.parametrize("outcome", [Failed("http_5xx", "no"), Deferred("later", 5.0)])
async def test_only_what_completed_is_kept(outcome: Outcome, stores: tuple[Watched, Watched], raw: redis.Redis) -> None:
    source = Source(outcome)
    assert await ask(stores[0], source) == outcome
    assert await raw.keys("*") == []
    assert await ask(stores[0], source) == Completed({"n": 2}, 0, "miss")


async def test_a_result_over_its_time_serves_when_the_call_fails(
    stores: tuple[Watched, Watched], raw: redis.Redis
) -> None:
    no, later, bad = Failed("http_5xx", "no"), Deferred("later", 5.0), Failed("input", "no such field")
    source = Source(Completed({"n": 0}), no, later, bad, Completed({"n": "new"}), no)
    await ask(stores[0], source, STALE)
    await age(raw, 601.0, STALE)
    assert await ask(stores[0], source, STALE) == Completed({"n": 0}, 0, "stale")
    assert await ask(stores[0], source, STALE) == Completed({"n": 0}, 0, "stale")
    assert await ask(stores[0], source, STALE) == bad, "a mistake is not covered up"
    assert await ask(stores[0], source, STALE) == Completed({"n": "new"}, 0, "miss")
    await age(raw, 700.0, STALE)
    assert await ask(stores[0], source, TEN) == no, "who does not want it does not get it"
    assert await ask(stores[0], source, STALE) == Completed({"n": 7}, 0, "miss")


@pytest.mark.parametrize("workers", [1, 2])
async def test_of_all_that_want_it_at_once_one_calls(workers: int, stores: tuple[Watched, Watched]) -> None:
    source, others = Source(), Source()
    source.gate.clear()
    here = NodeCache(stores[0])
    there = here if workers == 1 else NodeCache(stores[1])

    async def through(cached: NodeCache, call: Call) -> Outcome:
        return await cached.through(KEY, TEN, call, timeout=30.0, flying=set())

    leader = asyncio.create_task(through(here, source))
    await source.called.wait()
    waiting = [asyncio.create_task(through(there, others)) for _ in range(20)]
    if workers == 2:
        await stores[1].asked(40)
    source.gate.set()
    assert await leader == Completed({"n": 1}, 0, "miss")
    assert await asyncio.gather(*waiting) == [Completed({"n": 1}, 0, "hit")] * 20
    assert (source.calls, others.calls) == (1, 0)
    assert here.uses + there.uses in ({"miss": 1, "hit": 20}, {"miss": 2, "hit": 40})


async def test_when_the_one_that_calls_fails_another_calls(stores: tuple[Watched, Watched]) -> None:
    source, other = Source(Failed("http_5xx", "no")), Source()
    source.gate.clear()
    leader = asyncio.create_task(ask(stores[0], source))
    await source.called.wait()
    waiting = asyncio.create_task(ask(stores[1], other))
    await stores[1].asked(2)
    source.gate.set()
    assert await leader == Failed("http_5xx", "no")
    assert await waiting == Completed({"n": 1}, 0, "miss")


async def test_a_cancelled_call_lets_go_of_the_lead(stores: tuple[Watched, Watched], raw: redis.Redis) -> None:
    source = Source()
    source.gate.clear()
    leader = asyncio.create_task(ask(stores[0], source))
    await source.called.wait()
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert await raw.keys("*") == []


async def test_a_dead_one_is_replaced(
    stores: tuple[Watched, Watched], raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_store, "LOCK", 0.2)
    dead = await stores[0].look(KEY, 600.0)  # leads, and is never heard of again
    assert dead is not None
    assert dead.leads
    assert await ask(stores[1], Source()) == Completed({"n": 1}, 0, "miss")
    assert len(stores[1].looks) > 1


async def test_a_living_one_is_not_replaced(stores: tuple[Watched, Watched], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_store, "LOCK", 0.3)
    monkeypatch.setattr(cache, "LOCK", 0.3)
    source, other = Source(), Source()
    source.gate.clear()
    leader = asyncio.create_task(ask(stores[0], source))
    await source.called.wait()
    waiting = asyncio.create_task(ask(stores[1], other))
    await stores[1].asked(8)  # longer than the lock lives by itself
    source.gate.set()
    assert await leader == Completed({"n": 1}, 0, "miss")
    assert await waiting == Completed({"n": 1}, 0, "hit")
    assert other.calls == 0


async def test_nobody_waits_longer_than_the_timeout(stores: tuple[Watched, Watched]) -> None:
    source = Source()
    source.gate.clear()
    leader = asyncio.create_task(ask(stores[0], source))
    await source.called.wait()
    assert await ask(stores[1], Source(), timeout=0.05) == Completed({"n": 1}, 0, "miss")
    source.gate.set()
    await leader


async def test_who_waits_can_be_cancelled_alone(stores: tuple[Watched, Watched]) -> None:
    source, flying = Source(), set[asyncio.Task[Any]]()
    source.gate.clear()
    leader = asyncio.create_task(ask(stores[0], source))
    await source.called.wait()
    waiting = asyncio.create_task(NodeCache(stores[1]).through(KEY, TEN, Source(), timeout=30.0, flying=flying))
    await stores[1].asked(1)
    for task in flying:
        task.cancel()
    outcome = await waiting
    assert isinstance(outcome, Failed)
    source.gate.set()
    await leader


async def test_a_flush_in_the_middle_costs_a_call_at_most(stores: tuple[Watched, Watched], raw: redis.Redis) -> None:
    source, other = Source(), Source()
    source.gate.clear()
    leader = asyncio.create_task(ask(stores[0], source))
    await source.called.wait()
    waiting = asyncio.create_task(ask(stores[1], other))
    await stores[1].asked(1)
    await raw.flushdb()
    assert await waiting == Completed({"n": 1}, 0, "miss")
    source.gate.set()
    assert await leader == Completed({"n": 1}, 0, "miss")
    assert await ask(stores[1], Source()) == Completed({"n": 1}, 0, "hit")


async def test_without_redis_every_call_is_made() -> None:
    store = CacheStore("redis://127.0.0.1:1/0")
    source = Source()
    assert [await ask(store, source, STALE) for _ in range(3)] == [Completed({"n": n}, 0, "miss") for n in (1, 2, 3)]
    await store.aclose()


async def test_what_is_too_large_is_not_kept_and_nobody_waits_for_it(
    stores: tuple[Watched, Watched], raw: redis.Redis
) -> None:
    noise = Completed({"text": os.urandom(100_000).hex()}, 200_011)
    source = Source(noise)
    await ask(stores[0], source)
    assert await raw.hstrlen(KEY, "data") == 0
    source.gate.clear()
    two = [asyncio.create_task(ask(stores[1], source)) for _ in range(2)]
    while source.calls < 3:
        await asyncio.sleep(0)
    source.gate.set()
    assert [outcome.cache for outcome in await asyncio.gather(*two) if isinstance(outcome, Completed)] == ["miss"] * 2


async def test_a_corrupt_entry_is_none(stores: tuple[Watched, Watched], raw: redis.Redis) -> None:
    source = Source()
    await ask(stores[0], source, STALE)
    await raw.hset(KEY, "data", b"\0\0\0\0nonsense")
    assert await ask(stores[0], source, STALE) == Completed({"n": 2}, 0, "miss")
    await raw.hset(KEY, "data", b"\0\0\0\0nonsense")
    await age(raw, 601.0, STALE)
    assert await ask(stores[0], Source(Failed("error", "no")), STALE) == Failed("error", "no")


async def test_a_burst_opens_few_connections(stores: tuple[Watched, Watched], raw: redis.Redis) -> None:
    before = len(await raw.client_list())
    source = Source()
    cached = NodeCache(stores[0])
    await ask(stores[0], source)
    await asyncio.gather(*(cached.through(KEY, TEN, source, timeout=30.0, flying=set()) for _ in range(256)))
    assert len(await raw.client_list()) - before <= cache_store.CONNECTIONS
    assert (cached.uses, source.calls) == ({"hit": 256}, 1)


async def test_clearing(stores: tuple[Watched, Watched], raw: redis.Redis) -> None:
    for workspace, uses in ((1, "a"), (1, "b"), (2, "a"), (1, "a.b")):
        await ask(stores[0], Source(), key=cache_key(workspace, uses, 1, None) or "")
    assert await stores[0].clear("1:a:*") == 1
    assert await stores[0].clear("*:a:*") == 1
    assert await stores[0].clear("1:*") == 2
    assert await raw.keys("*") == []


def test_the_command_clears(
    redis_urls: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("HEADRACE_STATE_REDIS_URL", redis_urls[1])
    with Redis.from_url(redis_urls[1]) as client:
        for key in (cache_key(1, "a", 1, None), cache_key(2, "a", 1, None), cache_key(1, "b", 1, None)):
            client.hset(key or "", "data", "")
        client.set("other:a:x", "not ours")
        for arguments in (["--node", "a"], []):
            with pytest.raises(SystemExit) as ended:
                main(["cache", "clear", *arguments])
            assert ended.value.code == 0
        assert client.keys("*") == [b"other:a:x"]
    assert capsys.readouterr().out == "2 results removed\n1 results removed\n"


def test_results_are_told_apart() -> None:
    values: list[Any] = [{"x": 1, "y": 2}, {"x": 1}, {"x": "1"}, {"x": 1.0}, {"x": True}, None, float("nan"), [], [[]]]
    keys = [
        cache_key(workspace, uses, version, value)
        for workspace in (1, 2)
        for uses in ("a", "b")
        for version in (1, 2)
        for value in values
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key(1, "a", 1, {"x": 1, "y": {"b": 1, "a": 2}}) == cache_key(
        1, "a", 1, {"y": {"a": 2, "b": 1}, "x": 1}
    )
    assert cache_key(1, "a", 1, {"x": 2**80}) is None


PROCESS = """
import asyncio, sys
from executor.engine.cache import NodeCache
from executor.engine.cache_store import CacheStore
from executor.workflow.definition import Caching
from executor.workflow.outcomes import Completed

async def main():
    store = CacheStore(sys.argv[1])
    cache = NodeCache(store)
    async def call():
        calls = await store._redis.incr("calls")
        await store._redis.expire("calls", 60)
        await asyncio.sleep(0.1)
        return Completed({"n": calls})
    sys.stdout.write("+"); sys.stdout.flush(); sys.stdin.readline()
    async def one(n):
        outcome = await cache.through(f"headrace:cache:1:a:{n}", Caching(60.0), call, timeout=30.0, flying=set())
        return outcome.output["n"]
    print(len(set(await asyncio.gather(*[one(n % 5) for n in range(100)]))))
    await store.aclose()

asyncio.run(main())
"""


async def test_two_processes_call_once(redis_urls: tuple[str, str], raw: redis.Redis) -> None:
    pipe = asyncio.subprocess.PIPE
    both = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, redis_urls[1], stdin=pipe, stdout=pipe)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert await process.stdout.readexactly(1) == b"+"
    told = await asyncio.gather(*(process.communicate(b"\n") for process in both))
    assert [out.strip() for out, _ in told] == [b"5", b"5"]
    assert await raw.get("calls") == b"5"


CACHED = """
workflow: cached
on: [{source: s}]
nodes:
  one:
    uses: transform
    with: {value: {at: "${{ event.body.id }}"}}
    cache: {ttl: 10m, key: event.body.id, stale: 1h}
  two:
    uses: http.request
    needs: [one]
    with: {url: "https://crm.example/${{ nodes.one.output.at }}"}
    cache: {ttl: 10m}
  three:
    uses: http.request
    needs: [two]
    with: {url: "https://crm.example/more"}
    cache: {ttl: 10m}
output: "${{ nodes.two.output }}"
"""


def test_whatever_crashes_the_run_of_a_cached_node_ends_as_it_should(
    redis_urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class CachedBench(benches.Bench):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            with Redis.from_url(redis_urls[1]) as client:
                client.flushdb()

        async def _settle(self, until: float) -> None:
            store = CacheStore(redis_urls[1])
            self._services.attempts._cache = NodeCache(store)
            try:
                await super()._settle(until)
            finally:
                await store.aclose()

    stubs = {"two": {"status": 200}, "three": {"status": 201}}
    bench = CachedBench(CACHED, stubs=stubs)
    uses = [[getattr(fact, "cache", None) for fact in bench.deliver("s", body={"id": 7}).facts] for _ in range(2)]
    assert [[use for use in run if use] for run in uses] == [["miss"] * 3, ["hit"] * 3]
    assert len(bench.calls) == 3
    monkeypatch.setattr(matrix, "Bench", CachedBench)
    assert crash_matrix(CACHED, ("s", "", {"id": 8}), stubs=stubs).points >= 4
