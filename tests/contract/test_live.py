"""What watchers are given, against PostgreSQL and Redis: every version once, whatever breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from events import live
from events.database import Database
from events.live import Cursor
from events.runs import RunWriter
from executor.cli.embedded import EmbeddedRedis
from executor.console import wakeups
from executor.console.hub import Hub
from executor.engine.live import Announcer
from tests.contract.conftest import Open
from tests.contract.world import World, step, uncommitted

pytestmark = pytest.mark.anyio

RECONNECTS = 1_000
WATCHERS = 20
RUNS = 3
FOR_EVER = 10**9


@asynccontextmanager
async def kept(one: Hub | Announcer) -> AsyncIterator[None]:
    """It works until the end of the block."""
    task = asyncio.create_task(one.keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
async def told(everyone: World, redis_urls: tuple[str, str]) -> AsyncIterator[World]:
    """Everybody, and the worker's writer tells of its commits."""
    announcer = Announcer(redis_urls[0])
    everyone.writer.wrote = announcer.committed
    async with kept(announcer):
        yield everyone
    await announcer.close()


async def appended(world: World, id: UUID, *versions: int) -> None:
    for version in versions:
        assert await world.writer.append([step(id, version=version)]) == [True]


async def versions(messages: AsyncGenerator[bytes, None], upto: int) -> list[int]:
    """The versions in the messages until that one."""
    seen: list[int] = []
    async with asyncio.timeout(20):
        while not seen or seen[-1] < upto:
            message = msgspec.json.decode(await anext(messages))
            seen += [fact["version"] for fact in message["facts"]]
            if seen:
                assert message["version"] == seen[-1]
    return seen


async def test_who_comes_late_gets_what_was_and_then_what_comes(told: World, redis_urls: tuple[str, str]) -> None:
    id = await told.run()
    await appended(told, id, 1, 2)
    hub = Hub(told.operator, redis_urls[0])
    async with kept(hub), aclosing(hub.run(id, 0)) as early, aclosing(hub.run(id, -1)) as late:
        assert await versions(early, 2) == [1, 2]
        await appended(told, id, 3)
        assert await versions(early, 3) == [3]
        assert await versions(late, 3) == [0, 1, 2, 3]
        await appended(told, id, 4)
        assert await versions(late, 4) == [4]
    assert hub.watchers == 0


async def test_what_was_committed_before_a_worker_could_tell_is_read_when_it_can(
    everyone: World, redis_urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "LOOK", 1e6)
    monkeypatch.setattr(wakeups, "LOOK_WITHOUT", 1e6)
    monkeypatch.setattr(wakeups, "REPEAT", 1e6)
    id = await everyone.run()
    hub, announcer = Hub(everyone.operator, redis_urls[0]), Announcer(redis_urls[0])
    everyone.writer.wrote = announcer.committed
    async with kept(hub), aclosing(hub.run(id, -1)) as messages:
        assert await versions(messages, 0) == [0]
        coming = asyncio.create_task(versions(messages, 1))
        async with asyncio.timeout(20):
            while not hub._wakeups._about or hub._stale:  # its word is out, and nobody was there to hear it
                await asyncio.sleep(0)
        await appended(everyone, id, 1)
        async with kept(announcer):
            assert await coming == [1]
            await appended(everyone, id, 2)
            assert await versions(messages, 2) == [2]
    await announcer.close()


async def test_a_message_says_what_happened_without_outputs(everyone: World) -> None:
    id = await everyone.run()
    body = b'{"node":"n","attempt":2,"output":"%b","seconds":0.5}'
    long = random.Random(1).randbytes(200_000).hex().encode()
    one, other = step(id), step(id, version=2)
    for row, output in ((one, b"short"), (other, long)):
        event = msgspec.structs.replace(row.events[0], body=body % output)
        assert await everyone.writer.append([msgspec.structs.replace(row, events=(event,))]) == [True]
    hub = Hub(everyone.operator, "redis://127.0.0.1:1/0")
    async with aclosing(hub.run(id, 0)) as messages:
        facts = msgspec.json.decode(await anext(messages))["facts"]
    for fact in facts:
        assert fact.pop("at") > 0
    small = {"type": "node.completed", "node": "n", "attempt": 2}
    assert facts == [{"version": 1, **small, "seconds": 0.5}, {"version": 2, **small}]


async def test_a_workspace_sees_its_own_runs_in_the_order_of_the_log(told: World, redis_urls: tuple[str, str]) -> None:
    start = await live.horizon(told.operator)
    first, second = await told.run(), await told.run()
    hub = Hub(told.operator, redis_urls[0])
    async with kept(hub), aclosing(hub.workspace(1, start)) as mine, aclosing(hub.workspace(2, start)) as foreign:
        seen: list[tuple[str, int]] = []
        cursor = ""
        nothing = asyncio.create_task(anext(foreign))
        async with asyncio.timeout(20):
            for version in (1, 2, 3):
                await appended(told, first, version)
                await appended(told, second, version)
            while len(seen) < 8:
                message = msgspec.json.decode(await anext(mine))
                cursor = message["cursor"]
                seen += [(fact["run"], fact["version"]) for fact in message["facts"]]
        assert not nothing.done()
        nothing.cancel()
        await asyncio.wait({nothing})
    assert seen == [(str(id), 0) for id in (first, second)] + [
        (str(id), version) for version in (1, 2, 3) for id in (first, second)
    ]
    tx, position = map(int, cursor.split("."))
    page = await live.of_workspaces(told.operator, [1], Cursor(tx, position))
    assert page.rows == []


async def test_what_commits_late_is_not_passed_over(everyone: World, open_as: Open) -> None:
    start = await live.horizon(everyone.operator)
    slow, quick = await everyone.run(), await everyone.run()
    async with open_as("worker") as database, uncommitted(database) as inside:
        writer = RunWriter(inside, owner="me", lease=30.0)
        assert await writer.append([step(slow)]) == [True]
        await appended(everyone, quick, 1)
        page = await live.of_workspaces(everyone.operator, [1], start)
        assert [row.version for _, row in page.rows] == [0, 0]
        assert page.held
        again = await live.of_workspaces(everyone.operator, [1], page.upto)
        assert again.rows == []
    page = await live.of_workspaces(everyone.operator, [1], page.upto)
    assert [(row.run_id, row.version) for _, row in page.rows] == [(slow, 1), (quick, 1)]
    assert not page.held


async def test_the_whole_log_is_read_page_by_page(everyone: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start = await live.horizon(everyone.operator)
    id = await everyone.run()
    await appended(everyone, id, *range(1, 6))
    monkeypatch.setattr(live, "_OF_WORKSPACES", live._OF_WORKSPACES.replace(str(live.PAGE), "2"))
    monkeypatch.setattr(live, "PAGE", 2)
    seen: list[int] = []
    place, more = start, True
    while more:
        page = await live.of_workspaces(everyone.operator, [1], place)
        assert page.upto > place
        place, more = page.upto, page.more
        seen += [row.version for _, row in page.rows]
    assert seen == list(range(6))


class Service:
    """The hub of the moment: a restart takes it away from all who watch."""

    def __init__(self, database: Database, redis_url: str) -> None:
        self._database, self._url = database, redis_url
        self._task: asyncio.Task[None] | None = None
        self.hub = Hub(database, redis_url)
        self.gone = asyncio.Event()

    def start(self) -> None:
        self.hub, self.gone = Hub(self._database, self._url), asyncio.Event()
        self._task = asyncio.create_task(self.hub.keep())

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})
        self.gone.set()


async def test_no_version_is_missed_or_doubled_over_a_thousand_reconnects(everyone: World, tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path / "redis", persist=False)
    redis.start()
    announcer = Announcer(redis.url)
    everyone.writer.wrote = announcer.committed
    service = Service(everyone.operator, redis.url)
    service.start()
    ids = [await everyone.run() for _ in range(RUNS)]
    start = await live.horizon(everyone.operator)
    left = [RECONNECTS]
    written, total = [0], [FOR_EVER]
    ending = asyncio.Event()
    middle, late = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        while total[0] == FOR_EVER:
            if ending.is_set():
                total[0] = written[0] + 1  # the last: whoever has all of these need not wait for more
            written[0] += 1
            assert await everyone.writer.append([step(id, version=written[0]) for id in ids]) == [True] * RUNS
            await asyncio.sleep(0.002)

    async def watch(number: int) -> list[Any]:
        dice = random.Random(number)
        id = None if number % 4 == 0 else ids[number % RUNS]
        after: Any = start if id is None else 0
        seen: list[Any] = []

        def take(data: bytes) -> Any:
            message = msgspec.json.decode(data)
            seen.extend((fact.get("run"), fact["version"]) for fact in message["facts"])
            return message["version"] if id else Cursor(*map(int, message["cursor"].split(".")))

        while True:
            last = left[0] <= 0
            left[0] -= 1
            middle.set() if left[0] < RECONNECTS * 2 // 3 else None
            late.set() if left[0] < RECONNECTS // 3 else None
            hub, gone = service.hub, service.gone
            async with aclosing(hub.workspace(1, after) if id is None else hub.run(id, after)) as messages:
                for _ in range(FOR_EVER if last else dice.randrange(4)):
                    if len(seen) >= total[0] * (RUNS if id is None else 1):
                        return seen
                    waiting = asyncio.ensure_future(anext(messages))
                    leaving = asyncio.create_task(gone.wait())
                    await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
                    leaving.cancel()
                    if waiting.done():
                        after = take(waiting.result())
                    else:
                        waiting.cancel()
                        await asyncio.wait({waiting})
                        break
            if gone.is_set():
                await asyncio.sleep(0)

    async def upset() -> None:
        await middle.wait()
        redis.kill()
        redis.start()
        await late.wait()
        await service.stop()
        service.start()

    async with kept(announcer), asyncio.timeout(60):
        writing = asyncio.create_task(write())
        upsetting = asyncio.create_task(upset())
        watching = [asyncio.create_task(watch(number)) for number in range(WATCHERS)]
        await upsetting
        while left[0] > 0:
            await asyncio.sleep(0.01)
        ending.set()
        await writing
        lists = await asyncio.gather(*watching)
    await service.stop()
    await announcer.close()
    redis.kill()
    for number, seen in enumerate(lists):
        if number % 4:
            assert [version for _, version in seen] == list(range(1, written[0] + 1))
        else:
            assert len(seen) == RUNS * written[0]
            for id in ids:
                assert [version for run, version in seen if run == str(id)] == list(range(1, written[0] + 1))
    assert written[0] > 20
    assert left[0] <= 0
    assert service.hub.watchers == 0
