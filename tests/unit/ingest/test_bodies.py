"""Reading bodies: exact bytes, bounds of size, memory and time, and nothing held by whoever is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ingest import bodies as bodies_module
from ingest.bodies import Bodies, Gone, Slow, TooLarge
from ingest.room import SMALL, Crowded, Room

pytestmark = pytest.mark.anyio

TOTAL = 16 * SMALL
LIMIT = 4 * SMALL


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sender:
    """Sends pieces, one message each; the last ends the body, unless there is `rest` to come. Then it is silent."""

    def __init__(self, *pieces: bytes, rest: bool = False, leaves: bool = False) -> None:
        self._messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        if not rest and not leaves:
            self._messages[-1]["more_body"] = False
        if leaves:
            self._messages.append({"type": "http.disconnect"})
        self.taken = 0
        self.silent = asyncio.Event()

    async def __call__(self) -> dict[str, Any]:
        if self.taken == len(self._messages):
            self.silent.set()
            await asyncio.Event().wait()
        self.taken += 1
        return self._messages[self.taken - 1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bodies(clock: Clock) -> Bodies:
    return Bodies(Room(TOTAL, LIMIT, patience=0.05), limit=LIMIT, timeout=30.0, clock=clock)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


SHAPES = [
    [b""],
    [b"x"],
    [b"", b""],
    [b"a" * SMALL],
    [b"a" * (SMALL + 1)],
    [b"a" * SMALL, b"b"],
    [b"a" * SMALL, b"b", b""],
    [b"1", b"2" * (SMALL - 1)],
    [b"ab", b"c" * SMALL, b"d" * SMALL, b"e"],
    [bytes(range(256)) * 100] * 10,
    [b"a" * LIMIT],
    [b"a" * (LIMIT - 1), b"b"],
]


@pytest.mark.parametrize("pieces", SHAPES, ids=lambda pieces: "+".join(str(len(piece)) for piece in pieces))
@pytest.mark.parametrize("known", [True, False], ids=["content-length", "chunked"])
async def test_the_bytes_come_out_as_they_came_in_and_hold_their_size(
    bodies: Bodies, pieces: Sequence[bytes], known: bool
) -> None:
    whole = b"".join(pieces)
    body = await bodies.read(Sender(*pieces), b"%d" % len(whole) if known else None)
    assert body == whole
    assert bodies.room.used == len(whole)
    bodies.room.leave(len(body))
    await empty(bodies)


@pytest.mark.parametrize("length", [3, SMALL + 1, None])
async def test_a_body_that_is_waited_for_comes_out_as_well(bodies: Bodies, length: int | None) -> None:
    coming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    whole = b"a" * (length or 3)
    reading = asyncio.create_task(bodies.read(coming.get, None if length is None else b"%d" % length))
    for piece, more in ((whole[:1], True), (whole[1:2], True), (whole[2:], False)):
        await settle()
        assert not reading.done()
        coming.put_nowait({"type": "http.request", "body": piece, "more_body": more})
    assert await reading == whole
    assert bodies.room.used == len(whole)
    bodies.room.leave(len(whole))
    await empty(bodies)


async def empty(bodies: Bodies) -> None:
    """All shares are whole again."""
    assert bodies.room.used == 0
    bodies.room.reserve_now(TOTAL // 2)
    for _ in range(4):
        bodies.room.take_piece(SMALL)


@pytest.mark.parametrize(
    ("pieces", "content_length"),
    [
        ([b"a" * (LIMIT + 1)], None),
        ([b"a" * LIMIT, b"b"], None),
        ([b"a" * SMALL] * 5, None),
        ([b"a" * SMALL] * 5, b"%d" % SMALL),  # a server that does not count for us
        ([b"a"], b"%d" % (LIMIT + 1)),
        ([b"a"], b"9" * 5000),
    ],
)
async def test_too_large_is_refused_and_holds_nothing(
    bodies: Bodies, pieces: list[bytes], content_length: bytes | None
) -> None:
    with pytest.raises(TooLarge):
        await bodies.read(Sender(*pieces), content_length)
    await empty(bodies)


async def test_who_sends_too_much_is_listened_to_and_forgotten(bodies: Bodies) -> None:
    sender = Sender(*[b"a" * SMALL] * 20)
    with pytest.raises(TooLarge):
        await bodies.read(sender, None)
    assert sender.taken == 20
    await empty(bodies)


async def test_listening_has_an_end(bodies: Bodies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_module, "LINGER_BYTES", 3 * SMALL)
    sender = Sender(*[b"a" * SMALL] * 20)
    with pytest.raises(TooLarge):
        await bodies.read(sender, b"%d" % (20 * SMALL))
    assert sender.taken == 3
    monkeypatch.setattr(bodies_module, "LINGER", 0.01)
    with pytest.raises(TooLarge):
        await bodies.read(Sender(b"a", rest=True), b"%d" % (20 * SMALL))


@pytest.mark.parametrize("content_length", [b"3", b"%d" % (SMALL + 1), None])
async def test_who_leaves_leaves_nothing(bodies: Bodies, content_length: bytes | None) -> None:
    with pytest.raises(Gone):
        await bodies.read(Sender(b"a", b"b", leaves=True), content_length)
    with pytest.raises(Gone):
        await bodies.read(Sender(b"a" * (SMALL + 1), leaves=True), content_length)
    await empty(bodies)


@pytest.mark.parametrize("pieces", [[], [b"a"], [b"a" * (SMALL + 1)]], ids=["nothing", "little", "much"])
@pytest.mark.parametrize("content_length", [b"3", b"%d" % (3 * SMALL), None])
async def test_a_body_that_does_not_come_in_time_is_given_up(
    bodies: Bodies, clock: Clock, pieces: list[bytes], content_length: bytes | None
) -> None:
    sender = Sender(*pieces, rest=True)
    reading = asyncio.create_task(bodies.read(sender, content_length))
    await sender.silent.wait()
    clock.now += 30.0
    bodies.look()
    await settle()
    assert not reading.done()
    clock.now += 2.0
    bodies.look()
    bodies.look()
    with pytest.raises(Slow):
        await reading
    await empty(bodies)


async def test_what_was_sent_earns_time(bodies: Bodies, clock: Clock) -> None:
    sender = Sender(b"a" * 200_000, rest=True)
    reading = asyncio.create_task(bodies.read(sender, b"%d" % LIMIT))
    await sender.silent.wait()
    clock.now += 31.9
    bodies.look()
    await settle()
    assert not reading.done()
    clock.now += 0.2
    bodies.look()
    with pytest.raises(Slow):
        await reading


async def test_a_slow_large_one_gives_way_when_others_wait(clock: Clock) -> None:
    bodies = Bodies(Room(TOTAL, LIMIT), limit=LIMIT, timeout=30.0, clock=clock)
    slow = Sender(b"a", rest=True)
    holding = [asyncio.create_task(bodies.read(slow, b"%d" % LIMIT)) for _ in range(2)]
    await slow.silent.wait()
    clock.now += 6.0
    bodies.look()
    await settle()
    assert not any(task.done() for task in holding), "nobody waits"
    waiting = asyncio.create_task(bodies.read(Sender(b"b" * LIMIT), b"%d" % LIMIT))
    await settle()
    bodies.look()
    assert await waiting == b"b" * LIMIT
    for task in holding:
        with pytest.raises(Slow):
            await task


async def test_a_large_one_is_not_read_before_there_is_room_and_waiting_is_not_its_fault(clock: Clock) -> None:
    bodies = Bodies(Room(TOTAL, LIMIT), limit=LIMIT, timeout=30.0, clock=clock)
    for _ in range(2):
        await bodies.read(Sender(b"a" * LIMIT), None)
    sender = Sender(b"b" * LIMIT)
    reading = asyncio.create_task(bodies.read(sender, b"%d" % LIMIT))
    await settle()
    clock.now += 1000.0
    bodies.look()
    await settle()
    assert sender.taken == 0
    bodies.room.leave(LIMIT)
    assert await reading == b"b" * LIMIT


async def test_one_of_unknown_length_waits_when_it_has_grown(clock: Clock) -> None:
    bodies = Bodies(Room(TOTAL, LIMIT), limit=LIMIT, timeout=30.0, clock=clock)
    for _ in range(2):
        await bodies.read(Sender(b"a" * LIMIT), None)
    sender = Sender(b"b" * SMALL, b"c", b"d")
    reading = asyncio.create_task(bodies.read(sender, None))
    await settle()
    assert sender.taken == 2
    bodies.room.leave(LIMIT)
    assert await reading == b"b" * SMALL + b"cd"
    bodies.room.leave(SMALL + 2)
    bodies.room.leave(LIMIT)
    await empty(bodies)


@pytest.mark.parametrize("content_length", [b"%d" % LIMIT, None])
async def test_no_room_in_time_is_crowded(bodies: Bodies, content_length: bytes | None) -> None:
    for _ in range(2):
        await bodies.read(Sender(b"a" * LIMIT), None)
    with pytest.raises(Crowded):
        await bodies.read(Sender(b"b" * SMALL, b"c" * SMALL), content_length)
    assert await bodies.read(Sender(b"small"), b"5") == b"small"
    bodies.room.leave(5)
    for _ in range(2):
        bodies.room.leave(LIMIT)
    await empty(bodies)


async def test_a_cancelled_request_stays_cancelled_even_when_it_is_late(bodies: Bodies, clock: Clock) -> None:
    sender = Sender(b"a", rest=True)
    reading = asyncio.create_task(bodies.read(sender, None))
    await sender.silent.wait()
    clock.now += 100.0
    bodies.look()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await empty(bodies)


async def test_late_ones_are_looked_for_without_being_asked(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_module, "LOOK", 0.005)
    bodies = Bodies(Room(TOTAL, LIMIT), limit=LIMIT, timeout=30.0, clock=clock)
    for _ in range(2):  # the look is armed again after a rest
        sender = Sender(b"a", rest=True)
        reading = asyncio.create_task(bodies.read(sender, None))
        await sender.silent.wait()
        clock.now += 100.0
        async with asyncio.timeout(10):
            with pytest.raises(Slow):
                await reading
        while bodies._looking is not None:
            await asyncio.sleep(0)
