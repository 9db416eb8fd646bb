"""The budget for bodies: who gets in, who waits, and that all is given back."""

from __future__ import annotations

import asyncio
import random

import pytest

from events.errors import ConfigError
from ingest.room import SMALL, Copies, Crowded, Room

pytestmark = pytest.mark.anyio

TOTAL = 16 * SMALL
LARGE = 4 * SMALL


async def settle() -> None:
    """Lets all that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_small_bodies_take_what_is_free_and_no_more() -> None:
    room = Room(TOTAL, LARGE)
    for _ in range(16):
        room.take(SMALL)
    with pytest.raises(Crowded):
        room.take(1)
    room.leave(SMALL)
    room.take(SMALL)


async def test_large_ones_share_a_half_and_wait_in_their_order() -> None:
    room = Room(TOTAL, LARGE)
    await room.reserve(LARGE)
    await room.reserve(LARGE)
    order: list[int] = []

    async def come(size: int) -> None:
        await room.reserve(size)
        order.append(size)

    waiting = [asyncio.create_task(come(size)) for size in (LARGE, SMALL + 1, SMALL + 2)]
    await settle()
    assert order == []
    assert room.waiting == 3
    room.leave(LARGE)
    await settle()
    assert order == [LARGE], "the next ones would not fit beside it"
    room.leave(LARGE)
    await asyncio.gather(*waiting)
    assert order == [LARGE, SMALL + 1, SMALL + 2]
    assert room.used == LARGE + SMALL + 1 + SMALL + 2


async def test_nobody_overtakes_one_that_waits() -> None:
    room = Room(TOTAL, LARGE)
    await room.reserve(LARGE)
    await room.reserve(SMALL + 1)
    first = asyncio.create_task(room.reserve(LARGE))
    await settle()
    second = asyncio.create_task(room.reserve(SMALL + 1))  # there is room for this one
    await settle()
    assert not first.done()
    assert not second.done()
    room.leave(SMALL + 1)
    await first


async def test_large_ones_and_pieces_leave_a_quarter_to_whole_small_ones() -> None:
    room = Room(TOTAL, LARGE)
    await room.reserve(LARGE)
    await room.reserve(LARGE)
    for _ in range(4):
        room.take_piece(SMALL)
    with pytest.raises(Crowded):
        room.take_piece(1)
    for _ in range(4):
        room.take(SMALL)
    with pytest.raises(Crowded):
        room.take(1)


async def test_waiting_ends_and_the_next_one_comes_in() -> None:
    room = Room(TOTAL, LARGE, patience=0.01)
    await room.reserve(LARGE)
    await room.reserve(SMALL + 1)
    with pytest.raises(Crowded, match="within"):
        await room.reserve(LARGE)
    await room.reserve(SMALL + 1)
    assert room.waiting == 0


async def test_who_goes_away_while_waiting_makes_place_for_the_next() -> None:
    room = Room(TOTAL, LARGE)
    await room.reserve(LARGE)
    await room.reserve(SMALL + 1)
    first = asyncio.create_task(room.reserve(LARGE))
    await settle()
    second = asyncio.create_task(room.reserve(SMALL + 1))
    await settle()
    first.cancel()
    await second
    assert room.waiting == 0


async def test_who_goes_away_in_the_moment_of_coming_in_gives_it_back() -> None:
    room = Room(TOTAL, LARGE)
    await room.reserve(LARGE)
    await room.reserve(LARGE)
    waiting = asyncio.create_task(room.reserve(LARGE))
    await settle()
    room.leave(LARGE)  # granted, but its task has not run
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    assert room.used == LARGE
    await room.reserve(LARGE)


async def test_who_holds_room_does_not_wait_for_more() -> None:
    room = Room(TOTAL, LARGE)
    room.reserve_now(LARGE)
    room.reserve_now(LARGE)
    with pytest.raises(Crowded):
        room.reserve_now(SMALL + 1)
    room.leave(LARGE)
    room.reserve_now(SMALL + 1)


async def test_copies_count_and_one_delivery_may_go_beyond_the_budget_with_them() -> None:
    room = Room(TOTAL, LARGE)
    room.take(SMALL)
    with Copies(room) as one:
        one.hold(TOTAL)
        assert room.used == TOTAL + SMALL
        with pytest.raises(Crowded):
            room.take(1)
        with Copies(room) as other, pytest.raises(Crowded):
            other.hold(1)
        assert room.used == TOTAL + SMALL
        one.hold(TOTAL + SMALL)
        waiting = asyncio.create_task(room.reserve(LARGE))
        await settle()
        assert not waiting.done()
        one.hold(SMALL)
        await waiting
        with Copies(room) as other:
            other.hold(room._total - room.used)
            with pytest.raises(Crowded):
                one.hold(SMALL + 1)
    assert room.used == SMALL + LARGE


def test_copies_are_given_back_whatever_happens() -> None:
    room = Room(TOTAL, LARGE)
    copies = Copies(room)
    copies.hold(SMALL)
    with pytest.raises(ZeroDivisionError), copies:
        1 / 0  # noqa: B018
    assert room.used == room._copies == 0


def test_a_body_that_would_never_find_room_is_a_fault_of_the_settings() -> None:
    with pytest.raises(ConfigError, match="body_memory: expected at least twice body_limit"):
        Room(2 * LARGE - 1, LARGE)


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_comes_and_goes_the_budget_holds_and_all_is_given_back(seed: int) -> None:
    chance = random.Random(seed)
    room = Room(TOTAL, LARGE, patience=60)

    async def visit() -> None:
        for _ in range(20):
            size = chance.choice([1, 100, SMALL, SMALL + 1, LARGE])
            try:
                if size > SMALL:
                    await room.reserve(LARGE)
                    room.unreserve(LARGE - size)
                elif chance.random() < 0.5:
                    room.take(size)
                else:
                    room.take_piece(size)
                    await asyncio.sleep(0)
                    room.complete(size)
            except Crowded:
                continue
            assert 0 < room.used <= TOTAL
            await asyncio.sleep(0)
            room.leave(size)

    visits = [asyncio.create_task(visit()) for _ in range(30)]
    async with asyncio.timeout(20):
        await asyncio.gather(*visits)
    assert room.used == 0
    assert room.waiting == 0
    await room.reserve(LARGE)
    await room.reserve(LARGE)
    for _ in range(4):
        room.take_piece(SMALL)
