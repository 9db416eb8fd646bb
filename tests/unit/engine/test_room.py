"""Places for runs, and one for a suspect."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from events.types import Kind, WorkItem
from executor.engine.room import Room

pytestmark = pytest.mark.anyio


def item(attempt: int) -> WorkItem:
    id = uuid4()
    return WorkItem(id=id, stream_id=id, kind=Kind.RUN, queue="webhook", token=1, attempt=attempt)


async def test_places_are_shared_out_and_waited_for() -> None:
    room = Room(5, probation=60)
    assert await room.reserve(3) == 3
    assert await room.reserve(3) == 2
    waiting = asyncio.create_task(room.reserve(3))
    await asyncio.sleep(0)
    assert not waiting.done()
    await room.release(1)
    assert await waiting == 1


async def test_an_overfilled_room_empties_before_anybody_comes_in() -> None:
    room = Room(1, probation=60)
    assert await room.reserve(9) == 1
    for _ in range(2):  # a delivery that started two more runs than it had places
        room.overfill()
    waiting = asyncio.create_task(room.reserve(9))
    for _ in range(2):
        await room.release(1)
        await asyncio.sleep(0)
        assert not waiting.done()
    await room.release(1)
    assert await waiting == 1


async def test_a_closed_room_sends_everybody_away() -> None:
    room = Room(1, probation=60)
    await room.reserve(1)
    waiting = [asyncio.create_task(room.reserve(1)) for _ in range(3)]
    await asyncio.sleep(0)
    await room.close()
    assert await asyncio.gather(*waiting) == [0, 0, 0]
    await room.release(1)
    assert await room.reserve(1) == 0


async def test_one_suspect_at_a_time_however_many_ask() -> None:
    room = Room(9, probation=60)
    asked = [room.ask_for_suspect() for _ in range(4)]
    assert asked == [1, 0, 0, 0], "asking reserves the place, before the claim"
    suspect = item(2)
    room.admit(1, [item(1), suspect])
    assert room.ask_for_suspect() == 0
    assert room.clear(suspect.id)
    assert not room.clear(suspect.id)
    assert room.ask_for_suspect() == 1


async def test_a_claim_without_a_suspect_gives_the_place_back() -> None:
    room = Room(9, probation=60)
    room.admit(room.ask_for_suspect(), [item(1)])
    assert room.ask_for_suspect() == 1


async def test_a_suspect_that_lives_on_makes_way() -> None:
    room = Room(9, probation=0.01)
    room.admit(room.ask_for_suspect(), [item(5)])
    async with asyncio.timeout(5):
        while not room.ask_for_suspect():
            await asyncio.sleep(0.005)


async def test_who_is_no_suspect_clears_nothing() -> None:
    assert not Room(9, probation=60).clear(UUID(int=1))


async def test_a_room_that_shrinks_empties_first_and_one_that_grows_lets_in_who_waits() -> None:
    room = Room(4, probation=60)
    assert await room.reserve(4) == 4
    await room.resize(2)
    waiting = asyncio.create_task(room.reserve(9))
    await room.release(2)
    await asyncio.sleep(0)
    assert not waiting.done()
    await room.resize(5)
    assert await waiting == 3
