"""A batch's items are counted in the room for bodies until the batch is answered, and so is what they are made in."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from events.database import Database
from events.errors import Unavailable
from events.ids import Clock
from events.telemetry import NoTelemetry
from events.types import Accepted, Appended, Receipt
from ingest.bodies import Bodies
from ingest.catalogue import Catalogue
from ingest.certificates import Certificates
from ingest.compiled import CompiledSource, compile_source
from ingest.definition import SourceDefinition
from ingest.peers import Peers
from ingest.receipt import MOST_QUERY
from ingest.rejections import Rejections
from ingest.room import Room
from ingest.routes import LARGE, Door
from ingest.splitting import MOST_ITEMS, most_bytes

pytestmark = pytest.mark.anyio

LIMIT = 4 << 20


class Keeper:
    """Remembers what it was given, and how much room was taken then."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.given: list[tuple[Receipt, int]] = []
        self.away = False

    async def append(self, receipt: Receipt) -> Appended:
        self.given.append((receipt, self._room.used))
        if self.away:
            raise Unavailable("away")
        return Accepted(receipt.stream_id)


class Site:
    def __init__(self, compiled: CompiledSource, total: int = 64 << 20) -> None:
        self.room = Room(total, LIMIT)
        self.keeper = Keeper(self.room)
        source = SimpleNamespace(id=1, workspace_id=1, slug="s", compiled=compiled, fault=None, bucket=None)
        self._door = Door(
            catalogue=cast(Catalogue, SimpleNamespace(known=lambda slug: source)),
            keeper=self.keeper,
            clock=Clock(),
            telemetry=NoTelemetry(),
            bodies=Bodies(self.room, limit=LIMIT, timeout=30),
            rejections=Rejections(Database("", "ingest"), None, 0, 0, retention=1),
            certificates=Certificates(),
            peers=Peers([]),
        )

    async def post(self, body: bytes, query: bytes = b"") -> int:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"content-length", b"%d" % len(body))]
        scope = {"path": "/s/", "method": "POST", "headers": headers, "query_string": query}
        await self._door(scope, receive, send)
        return int(sent[0]["status"])


def events(split: Callable[[bytes], list[bytes] | None] | None = None) -> CompiledSource:
    compiled = compile_source(SourceDefinition(source="s", preset="none", split=""), [])
    return compiled if split is None else msgspec.structs.replace(compiled, split=split)


async def test_many_small_items_take_more_room_than_their_batch() -> None:
    site = Site(events())
    body = b"[" + b"{}," * (MOST_ITEMS - 1) + b"{}]"
    assert await site.post(body) == 202
    ((receipt, used),) = site.keeper.given
    assert len(receipt.items) == MOST_ITEMS
    assert used > len(body) + sum(len(item.metadata) + len(item.body) for item in receipt.items)
    assert site.room.used == 0
    site.keeper.away = True
    assert await site.post(body) == 503
    assert site.room.used == 0


async def test_without_items_it_is_the_body_alone() -> None:
    site = Site(events())
    assert await site.post(b'{"a":1}') == 202
    assert site.keeper.given[0][1] == 7


async def test_while_others_have_copies_one_that_finds_no_room_is_sent_again() -> None:
    site = Site(events(), 2 * LIMIT)
    body = b"[" + b"{}," * (MOST_ITEMS - 1) + b"{}]"
    site.room.copy(0, 2 * LIMIT - 65536)
    assert await site.post(body) == 503
    assert site.keeper.given == []
    site.room.copy(2 * LIMIT - 65536, 0)
    assert await site.post(body) == 202
    assert site.room.used == 0


async def test_what_is_split_in_a_thread_has_room_before_it_is() -> None:
    used: list[int] = []

    def split(body: bytes) -> None:
        used.append(site.room.used)

    site = Site(events(split))
    body = b"x" * (LARGE + 1)
    assert await site.post(body) == 202
    assert used == [len(body) + most_bytes(body)]
    assert site.keeper.given[0][1] == len(body)
    assert site.room.used == 0


@pytest.mark.parametrize(("size", "kept"), [(MOST_QUERY, True), (MOST_QUERY + 1, False)])
async def test_a_long_query_is_not_repeated_in_every_item(size: int, kept: bool) -> None:
    site = Site(events())
    assert await site.post(b"[{},{}]", b"q" * size) == 202
    receipt = site.keeper.given[0][0]
    assert msgspec.json.decode(receipt.metadata)["query"] == "q" * size
    assert [msgspec.json.decode(item.metadata).get("query") for item in receipt.items] == (
        ["q" * size] * 2 if kept else [None, None]
    )
