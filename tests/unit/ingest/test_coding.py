"""Compressed bodies are decoded beside what came, within the room that bodies have, and give it back."""

from __future__ import annotations

import asyncio
import gzip
import os

import pytest

from ingest.coding import Decoder
from ingest.room import SMALL, Crowded, Room
from ingest.verify.base import Incoming, headers_of

pytestmark = pytest.mark.anyio

LIMIT = 4 << 20
LARGE = b"wheel" * (LIMIT // 10)


def compressed(body: bytes, coding: str = "gzip") -> Incoming:
    return Incoming("POST", "/", b"", headers_of([(b"content-encoding", coding.encode())]), body)


@pytest.mark.parametrize("body", [b"", b"small", b"s" * SMALL, b"s" * (SMALL + 1), LARGE, bytes(LIMIT)])
async def test_what_fits_is_decoded(body: bytes) -> None:
    room = Room(8 * LIMIT, LIMIT)
    incoming = compressed(gzip.compress(body))
    async with Decoder(room, LIMIT).decoded(incoming) as plain:
        assert plain.body == body
        assert incoming.body == gzip.compress(body)
        if len(body) > SMALL:
            assert room.used == len(body)
    assert room.used == 0


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(bytes(LIMIT + 1)), gzip.compress(LARGE)[:-9], gzip.compress(os.urandom(SMALL)) + b"x"],
)
async def test_what_cannot_be_decoded_stands_for_itself(body: bytes) -> None:
    room = Room(8 * LIMIT, LIMIT)
    incoming = compressed(body)
    async with Decoder(room, LIMIT).decoded(incoming) as plain:
        assert plain is incoming
        assert room.used == 0
    assert room.used == 0


async def test_a_large_one_that_finds_no_room_is_sent_again_and_a_small_one_goes_on() -> None:
    room = Room(2 * LIMIT, LIMIT, patience=0.05)
    await room.reserve(LIMIT)
    decoder = Decoder(room, LIMIT)
    noise = os.urandom(2 * SMALL)  # compressed it is large too, so that it does not wait
    for body in (LARGE, noise):
        with pytest.raises(Crowded):
            async with decoder.decoded(compressed(gzip.compress(body))):
                pass
    async with decoder.decoded(compressed(gzip.compress(b"small"))) as plain:
        assert plain.body == b"small"
    assert room.used == LIMIT


async def test_many_that_decode_to_a_little_more_than_small_are_all_served() -> None:
    room = Room(2 * LIMIT, LIMIT)
    body = os.urandom(SMALL // 2) + b"s" * SMALL

    async def one() -> bool:
        async with Decoder(room, LIMIT).decoded(compressed(gzip.compress(body))) as plain:
            return plain.body == body

    assert await asyncio.gather(*[one() for _ in range(40)]) == [True] * 40
    assert room.used == 0


async def test_a_failure_inside_gives_the_room_back() -> None:
    room = Room(8 * LIMIT, LIMIT)
    for body in (b"small", LARGE):
        with pytest.raises(ValueError, match="inside"):
            async with Decoder(room, LIMIT).decoded(compressed(gzip.compress(body))):
                raise ValueError("inside")
    assert room.used == 0


async def test_nothing_is_done_without_a_coding() -> None:
    room = Room(2 * LIMIT, LIMIT)
    for incoming in (compressed(b"x", "identity"), Incoming("POST", "/", b"", {}, b"x")):
        async with Decoder(room, LIMIT).decoded(incoming) as plain:
            assert plain is incoming
