"""The hub of a process: reads the log for all who watch, and gives each every event once and in order.

Workers' messages only wake it up. However many watch, it has one connection that listens to Redis, and asks the log one
question at a time for all runs that may have something new, and one for all workspaces. Who comes says the last place
it knows, reads the log from there at its own pace, and joins the others when it is level with them. Who is too slow is
cut, comes back, and goes on where it was. Without Redis it looks into the log every second; without the log it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec
import structlog

from events import live
from events.database import Database
from events.errors import HeadraceError
from events.live import PAGE, Cursor
from executor.console.brief import brief
from executor.console.topics import Topic, Watcher
from executor.console.wakeups import Wakeups

KEEP_ALIVE = 20.0
"""Seconds of silence after which a watcher gets a message without facts."""
MOST_WATCHERS = 5_000
MOST_READING = 4
"""Watchers that read the log for themselves at once."""
MOST_RUNS = 1_000
"""Runs in one question."""
AGAIN = 1.0
"""Seconds after which the log is asked again when it could not be read."""
HELD = (0.02, 1.0)
"""Seconds, the first and the longest, after which is looked again for what an older transaction held back."""

K = TypeVar("K")
P = TypeVar("P", int, Cursor)
_log = structlog.get_logger(__name__)
_ENCODER = msgspec.json.Encoder()


class TooSlow(HeadraceError):
    """The watcher did not take what waited for it; it may come back and go on."""


class Crowded(HeadraceError):
    """There are as many watchers as one process serves."""


class _Line(NamedTuple, Generic[K, P]):
    """How one thing is watched: its topic's place, how the log is read for it, and how it is made known to workers."""

    topics: dict[K, Topic[P]]
    key: K
    read: Callable[[P], Awaitable[tuple[Sequence[msgspec.Raw], P, bool]]]
    write: Callable[[P, Sequence[msgspec.Raw]], bytes]
    announce: Callable[[], None]


class Hub:
    """One for each process, in one event loop.

    Args:
        database: in a role that may read `event` and `run`.
        redis_url: where workers say what they did.
    """

    def __init__(self, database: Database, redis_url: str) -> None:
        self._database = database
        self._runs: dict[UUID, Topic[int]] = {}
        self._workspaces: dict[int, Topic[Cursor]] = {}
        self._stale: set[UUID] = set()
        self._runs_bell, self._workspaces_bell = asyncio.Event(), asyncio.Event()
        self._reading = asyncio.Semaphore(MOST_READING)
        self._wakeups = Wakeups(redis_url, self._watched, self._out_of_date, self._workspaces_bell.set)
        self._ending = False
        self.watchers = 0
        """How many watch now."""

    async def keep(self) -> None:
        """Reads until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._wakeups.keep())
                tasks.create_task(_for_ever(self._runs_bell, self._read_runs))
                tasks.create_task(_for_ever(self._workspaces_bell, self._read_workspaces))
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._wakeups.close()

    def end(self) -> None:
        """Sends everybody away, and lets nobody in: the process ends. They come back to another, and go on there."""
        self._ending = True
        for watchers in [topic.watchers for topic in self._runs.values()]:
            for watcher in watchers:
                watcher.end()
        for followers in [topic.watchers for topic in self._workspaces.values()]:
            for follower in followers:
                follower.end()

    def run(self, id: UUID, after: int) -> AsyncGenerator[bytes, None]:
        """Messages `{run, version, facts}` with all events of a run after a version: JSON, for ever.

        Each has all facts after the one before, up to its `version`; now and then one has none.

        Raises:
            Crowded, TooSlow: see there.
            Unavailable: the log cannot be read.
        """
        write = partial(_of_run, str(id))

        async def read(place: int) -> tuple[Sequence[msgspec.Raw], int, bool]:
            rows = (await live.of_runs(self._database, {id: place})).get(id, [])
            return [brief(row, with_run=False) for row in rows], rows[-1].version if rows else place, len(rows) == PAGE

        return self._follow(_Line(self._runs, id, read, write, lambda: self._wakeups.watch(id)), after)

    def workspace(self, id: int, after: Cursor) -> AsyncGenerator[bytes, None]:
        """Messages `{cursor, facts}` with all events of a workspace's runs after a place in the log, as `run` does."""

        async def read(place: Cursor) -> tuple[Sequence[msgspec.Raw], Cursor, bool]:
            page = await live.of_workspaces(self._database, [id], place)
            return [brief(row, with_run=True) for _, row in page.rows], page.upto, page.more

        line = _Line(self._workspaces, id, read, _of_workspace, lambda: self._wakeups.watch(None))
        return self._follow(line, after)

    async def _follow(self, line: _Line[K, P], place: P) -> AsyncGenerator[bytes, None]:
        if self._ending or self.watchers >= MOST_WATCHERS:
            raise Crowded(f"{MOST_WATCHERS} watch already; come back later, or ask another process")
        self.watchers += 1
        watcher = Watcher(place)
        topic: Topic[P] | None = None
        try:
            while topic is None and not self._ending:
                async with self._reading:
                    facts, watcher.place, more = await line.read(watcher.place)
                if facts:
                    yield line.write(watcher.place, facts)
                if not more:
                    topic = _join(line, watcher)
            while topic is not None and not watcher.cut:
                message = await watcher.take(KEEP_ALIVE)
                if message is None and watcher.cut:
                    break
                yield message or line.write(max(watcher.place, topic.at), ())
            raise TooSlow("more waits than is kept for one watcher; come back with the last place that you have")
        finally:
            self.watchers -= 1
            if topic is not None:
                topic.watchers.discard(watcher)
                if not topic.watchers and line.topics.get(line.key) is topic:
                    del line.topics[line.key]

    def _watched(self) -> tuple[Iterable[UUID], bool]:
        return self._runs.keys(), bool(self._workspaces)

    def _out_of_date(self, runs: Iterable[tuple[UUID, int | None]] | None) -> None:
        if runs is None:
            self._stale.update(self._runs)
            self._workspaces_bell.set()
        else:
            for id, version in runs:
                topic = self._runs.get(id)
                if topic is not None and (version is None or version > topic.at):
                    self._stale.add(id)
        if self._stale:
            self._runs_bell.set()

    async def _read_runs(self) -> None:
        while self._stale:
            ids = [self._stale.pop() for _ in range(min(MOST_RUNS, len(self._stale)))]
            topics = {id: self._runs[id] for id in ids if id in self._runs}
            try:
                found = await live.of_runs(self._database, {id: topic.at for id, topic in topics.items()})
            except HeadraceError:
                self._stale.update(topics)
                raise
            for id, rows in found.items():
                topics[id].pass_on([(row.version, brief(row, with_run=False)) for row in rows], rows[-1].version)
                if len(rows) == PAGE:
                    self._stale.add(id)

    async def _read_workspaces(self) -> None:
        delay = HELD[0]
        while topics := dict(self._workspaces):
            page = await live.of_workspaces(self._database, list(topics), min(topic.at for topic in topics.values()))
            of: dict[int, list[tuple[Cursor, msgspec.Raw]]] = {}
            for place, row in page.rows:
                of.setdefault(row.workspace_id, []).append((place, brief(row, with_run=True)))
            for id, topic in topics.items():
                topic.pass_on(of.get(id, []), page.upto)
            if not page.more:
                if not page.held:
                    return
                await asyncio.sleep(delay)
                delay = min(2 * delay, HELD[1])


def _join(line: _Line[K, P], watcher: Watcher[P]) -> Topic[P] | None:
    """The topic, if the watcher is level with it."""
    topic = line.topics.get(line.key)
    if topic is None:
        topic = line.topics[line.key] = Topic(watcher.place, line.write)
        line.announce()
    return topic if topic.join(watcher) else None


async def _for_ever(bell: asyncio.Event, read: Callable[[], Awaitable[None]]) -> None:
    """Reads whenever the bell was rung, and again if it could not."""
    while True:
        await bell.wait()
        bell.clear()
        try:
            await read()
        except HeadraceError as error:
            _log.warning("live.log_not_read", error=str(error))
        except Exception:
            _log.exception("live.log_not_read")
        else:
            continue
        await asyncio.sleep(AGAIN)
        bell.set()


def _of_run(run: str, version: int, facts: Sequence[msgspec.Raw]) -> bytes:
    return _ENCODER.encode({"run": run, "version": version, "facts": facts})


def _of_workspace(cursor: Cursor, facts: Sequence[msgspec.Raw]) -> bytes:
    return _ENCODER.encode({"cursor": f"{cursor.tx}.{cursor.position}", "facts": facts})
