"""Who is told of a commit, and what is passed on to whom, without Redis and without a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from executor.console.topics import MOST_WAITING, Topic, Watcher
from executor.engine.live import Announcer, Wake, Watch, decode, encode

pytestmark = pytest.mark.anyio


class Told(Announcer):
    """Notes what it would publish."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1/3")
        self.said: list[tuple[str, Any]] = []

    async def _publish(self, messages: list[tuple[str, bytes]]) -> None:
        self.said += [(channel, decode(data)) for channel, data in messages]

    async def hear(self, data: bytes) -> None:
        self._watch(data)
        await self.flushed()

    async def flushed(self) -> None:
        while self._flusher is not None:
            await self._flusher


def looked_at(ids: Sequence[UUID], seen: list[UUID]) -> Iterator[tuple[UUID, int]]:
    for id in ids:
        seen.append(id)
        yield id, 7


async def test_a_commit_is_told_to_those_who_watch_and_to_nobody_else() -> None:
    announcer, seen = Told(), list[UUID]()
    watched, other = uuid4(), uuid4()
    announcer.committed(looked_at([watched, other], seen))
    assert seen == []  # with nobody there, it is not even looked at
    await announcer.hear(b"nonsense")
    await announcer.hear(encode(Watch("short", 1, [b"not an id"], all=True, whole=True)))
    await announcer.hear(encode(Watch("hub", 1, [watched.bytes], all=False, whole=True)))
    announcer.said.clear()
    announcer.committed(looked_at([other], seen))
    await announcer.flushed()
    assert announcer.said == []
    announcer.committed(looked_at([watched, other], seen))
    announcer.committed([(watched, 8)])
    await announcer.flushed()
    assert announcer.said == [("headrace:3:live:hub:hub", Wake([(watched.bytes, 8)]))]
    await announcer.hear(encode(Watch("hub", 2, [], all=False, whole=True)))
    announcer.said.clear()
    announcer.committed([(watched, 9)])
    await announcer.flushed()
    assert announcer.said == []


def topic(at: int) -> Topic[int]:
    return Topic(at, lambda upto, facts: b"%d:%b" % (upto, b",".join(bytes(fact) for fact in facts)))


def facts(*versions: int) -> list[tuple[int, msgspec.Raw]]:
    return [(version, msgspec.Raw(b"%d" % version)) for version in versions]


async def test_each_watcher_gets_what_is_after_its_own_place() -> None:
    shared = topic(3)
    behind, level, ahead = Watcher(2), Watcher(3), Watcher(5)
    assert [shared.join(one) for one in (behind, level, ahead)] == [False, True, True]
    shared.pass_on(facts(3, 4, 5), 5)
    shared.pass_on(facts(5, 6), 6)
    assert [await level.take(0.0), await level.take(0.0)] == [b"5:4,5", b"6:6"]
    assert await ahead.take(0.0) == b"6:6"
    assert (level.place, ahead.place) == (6, 6)


async def test_a_watcher_who_does_not_take_is_cut_and_holds_nothing() -> None:
    shared, slow = topic(0), Watcher(0)
    assert shared.join(slow)
    cut: list[bool] = []
    for version in range(1, MOST_WAITING + 2):
        shared.pass_on(facts(version), version)
        cut.append(slow.cut)
    assert cut == [False] * MOST_WAITING + [True]
    assert await slow.take(60.0) is None
