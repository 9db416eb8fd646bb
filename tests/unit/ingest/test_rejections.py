"""A refusal costs its sender nothing and us little: what is kept, what is not, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
import structlog

from events.database import Database
from events.errors import BadRow, Unavailable
from events.ids import Clock, uuid7_time
from events.rejections import HOUR, Full, Kept, Quota, Rejection, Use, fitting, hours_kept
from events.secretbox import SecretBox
from ingest import rejections
from ingest.rejections import MOST_BYTES, MOST_WAITING, Rejections, Sealed, sealed_context
from ingest.verify.base import Incoming

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0 + 60  # a minute past a full hour
BOX = SecretBox(base64.b64encode(b"k" * 32).decode())
RAW = [(b"authorization", b"Bearer hush"), (b"x-two", b"a"), (b"x-two", b"b")]


class Store:
    """Stands for the database: counts, fails or hangs as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: list[Rejection] = []
        self.asked = 0
        self.error: Exception | None = None
        self.free = asyncio.Event()
        self.free.set()
        self.quota = Quota(0, 0, 0)
        self.others = 0  # rows that other processes have kept
        monkeypatch.setattr(rejections, "keep", self._keep)

    async def _keep(self, database: Database, batch: Sequence[Rejection], quota: Quota) -> list[Kept | Full]:
        self.asked += 1
        self.quota = quota
        await self.free.wait()
        if self.error is not None:
            raise self.error
        hour = NOW - NOW % HOUR
        uses = {
            id: Use(hour, self.others + len(mine), sum(one.size for one in mine))
            for id in {one.source_id for one in batch}
            for mine in [[one for one in self.kept if one.source_id == id]]
        }
        results = fitting(batch, uses, quota)
        self.kept += [one for one, result in zip(batch, results, strict=True) if isinstance(result, Kept)]
        return results


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    return Store(monkeypatch)


def made(per_hour: int = 10, bytes_per_hour: int = 1 << 20, box: SecretBox | None = BOX) -> Rejections:
    database = cast(Database, SimpleNamespace(clock=Clock()))
    return Rejections(database, box, per_hour, bytes_per_hour, retention=72 * HOUR)


def ask(
    into: Rejections, body: bytes = b"{}", *, source_id: int = 1, now: float = NOW, **more: Any
) -> Coroutine[Any, Any, UUID | None]:
    headers = {b"content-type": b"application/json"}
    values: dict[str, Any] = {"method": "POST", "path": "/in/shop", "query": b"", "peer": "192.0.2.1"} | more
    incoming = Incoming(headers=headers, body=body, **values)
    return into.keep(
        workspace_id=1,
        source_id=source_id,
        slug="shop",
        incoming=incoming,
        raw_headers=RAW,
        redacted_headers=b"authorization: [redacted]",
        reason="the token does not match",
        now=now,
    )


def at_once(asked: Coroutine[Any, Any, UUID | None]) -> UUID | None:
    """The answer of a call that waits for nothing; fails if it would wait."""
    with pytest.raises(StopIteration) as ended:
        asked.send(None)
    answer: UUID | None = ended.value.value
    return answer


async def test_what_is_kept_holds_all_for_a_check_and_nothing_secret_for_people(store: Store) -> None:
    id = await ask(made(), b"\x00body", query=b"key=hush&hush&a=b=c")
    (one,) = store.kept
    assert one.id == id
    assert uuid7_time(one.id) == pytest.approx(NOW, abs=0.002)
    assert (one.workspace_id, one.source_id, one.body) == (1, 1, b"\x00body")
    assert (one.headers, one.reason) == (b"authorization: [redacted]", "the token does not match")
    assert msgspec.json.decode(one.metadata) == {
        "source": "shop",
        "method": "POST",
        "path": "/in/shop",
        "query": "key=[redacted]&[redacted]&a=[redacted]",
        "peer": "192.0.2.1",
        "size": 5,
        "content_type": "application/json",
    }
    assert one.sealed is not None
    assert b"hush" not in one.sealed
    opened = msgspec.msgpack.decode(BOX.open(one.sealed, sealed_context(one.id)), type=Sealed)
    assert (opened.query, opened.headers) == (b"key=hush&hush&a=b=c", RAW)


async def test_without_a_key_nothing_secret_is_kept_at_all(store: Store) -> None:
    assert await ask(made(box=None)) is not None
    assert store.kept[0].sealed is None


async def test_what_no_database_can_hold_is_written_another_way(store: Store) -> None:
    await ask(made(), path="/in/\0\ud800" + "x" * 10_000, query=b"\x00\xff=1", method="P\0")
    facts = msgspec.json.decode(store.kept[0].metadata)
    assert facts["path"].startswith("/in/\ufffd?xxx")
    assert len(facts["path"]) == 500
    assert facts["query"] == "\ufffd\ufffd=[redacted]"
    assert facts["method"] == "P\ufffd"


async def test_once_an_hour_is_used_up_the_database_is_not_asked_until_the_next(store: Store) -> None:
    into = made(per_hour=3)
    ids = [await ask(into) for _ in range(3)]
    assert None not in ids
    assert all(at_once(ask(into)) is None for _ in range(100))
    assert at_once(ask(into, now=NOW + HOUR - 61)) is None
    assert store.asked == 3
    assert await ask(into, source_id=2) is not None  # another source has its own
    store.kept.clear()
    assert await ask(into, now=NOW + HOUR) is not None


async def test_what_other_processes_have_used_up_is_learned_once(store: Store) -> None:
    into = made(per_hour=3)
    store.others = 3
    assert await ask(into) is None
    assert at_once(ask(into)) is None
    assert store.asked == 1


async def test_what_is_too_large_is_not_even_asked_for(store: Store) -> None:
    into = made(bytes_per_hour=2000)
    assert at_once(ask(into, b"x" * 2001)) is None
    assert await ask(into, b"x" * 800) is not None
    assert at_once(ask(into, b"x" * 1500)) is None
    assert store.asked == 1


async def test_none_are_kept_where_none_are_wanted(store: Store) -> None:
    assert at_once(ask(made(per_hour=0))) is None
    assert store.asked == 0


async def test_a_source_with_too_many_hours_is_left_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    into = made()
    into._database.clock.offset = NOW - Clock().now()

    async def full(database: Database, batch: Sequence[Rejection], quota: Quota) -> list[Kept | Full]:
        store.asked += 1
        store.quota = quota
        return [Full(None) for _ in batch]

    monkeypatch.setattr(rejections, "keep", full)
    assert await ask(into) is None
    assert at_once(ask(into)) is None
    assert (store.asked, store.quota.hours) == (1, hours_kept(72 * HOUR))


async def test_a_failure_is_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    into = made()
    store.error = Unavailable("away")
    with structlog.testing.capture_logs() as logs:
        assert await ask(into) is None
    assert [line["event"] for line in logs] == ["rejections.not_kept"]
    store.error = None
    assert at_once(ask(into)) is None
    assert store.asked == 1
    into._paused_until = 0.0  # as when PAUSE is over
    assert await ask(into) is not None


@pytest.mark.parametrize("error", [BadRow("no"), RuntimeError("a defect")])
async def test_whatever_happens_a_refusal_stays_a_refusal(store: Store, error: Exception) -> None:
    into = made()
    store.error = error
    assert await ask(into) is None
    store.error = None
    assert await ask(into) is not None


async def test_a_database_that_hangs_holds_nobody_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejections, "WAIT", 0.05)
    into = made(per_hour=1000)
    store.free.clear()
    assert await ask(into) is None  # after WAIT
    assert at_once(ask(into)) is None
    store.free.set()
    await into.drain()
    assert len(store.kept) == 1  # late, and harmless
    assert await ask(into) is not None


async def test_what_waits_is_bounded_in_requests(store: Store) -> None:
    into = made(per_hour=10_000, bytes_per_hour=1 << 30)
    store.free.clear()
    waiting = [asyncio.ensure_future(ask(into)) for _ in range(MOST_WAITING + 40)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert sum(task.done() for task in waiting) >= 39  # one or so is on its way
    store.free.set()
    kept = [id for id in await asyncio.gather(*waiting) if id is not None]
    assert MOST_WAITING <= len(kept) <= MOST_WAITING + 1


async def test_what_waits_is_bounded_in_bytes(store: Store) -> None:
    into = made(per_hour=10_000, bytes_per_hour=1 << 30)
    store.free.clear()
    large = bytes(MOST_BYTES // 4)
    waiting = [asyncio.ensure_future(ask(into, large)) for _ in range(10)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert sum(task.done() for task in waiting) == 7
    store.free.set()
    assert sum(id is not None for id in await asyncio.gather(*waiting)) == 3
    assert await ask(into, bytes(MOST_BYTES + 1)) is not None  # alone


async def test_a_sender_that_goes_away_breaks_nothing(store: Store) -> None:
    into = made()
    store.free.clear()
    task = asyncio.ensure_future(ask(into))
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.free.set()
    await into.drain()
    assert len(store.kept) == 1
    assert await ask(into) is not None
