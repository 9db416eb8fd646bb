"""The spool's file, on a real disk: what it keeps, in which order, how much, for whom, and what it does when broken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from events import faults
from events.codec import pack, unpack
from events.definitions import SourceRow
from events.errors import ConfigError, Overloaded, Unavailable
from events.ids import uuid7_time
from events.types import Accepted, Duplicate, Receipt
from ingest import spool_reserve, spool_rows
from ingest.remembered import recall_sources, remember_sources
from ingest.spool import Spool
from ingest.spool_pace import BURST, SHARE, Pace
from ingest.spool_rows import Damaged, Spooled, Unreadable, decode, encode, weight
from ingest.spool_statements import VERSION
from ingest.spool_store import SHRINK
from tests.rows import batch, nonced, receipt

pytestmark = pytest.mark.anyio

ROOMY = 1 << 30


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def passed() -> Iterator[list[str]]:
    """How often a batch became durable."""
    points: list[str] = []
    faults.install("spool.appended", points.append)
    yield points
    faults.clear()


async def kept(spool: Spool, after: int = 0, rows: int = 1000, size: int = ROOMY) -> list[Receipt]:
    found = await spool.next(after, rows, size)
    assert all(isinstance(row, Spooled) for row in found)
    return [row.receipt for row in found if isinstance(row, Spooled)]


async def filled(directory: Path, count: int, limit: int = ROOMY) -> tuple[Spool, list[Receipt]]:
    spool = Spool(directory, limit)
    receipts = [receipt(body=random.randbytes(600)) for _ in range(count)]
    answers = await asyncio.gather(*[spool.append(each) for each in receipts])
    assert answers == [Accepted(each.stream_id) for each in receipts]
    return spool, receipts


class TestRows:
    numbers = st.integers(0, (1 << 31) - 1)
    receipts = st.recursive(
        st.builds(Receipt, workspace_id=numbers, source_id=numbers, items=st.just(())),
        lambda items: st.builds(
            Receipt, workspace_id=st.just(1), source_id=st.just(1), items=st.lists(items, max_size=3).map(tuple)
        ),
        max_leaves=6,
    )

    @given(receipts)
    def test_read_back_as_the_very_same(self, row: Receipt) -> None:
        assert decode(encode(row)) == row

    @given(st.binary(max_size=2000), st.data())
    def test_a_changed_bit_is_found(self, body: bytes, data: st.DataObject) -> None:
        row = bytearray(encode(receipt(body=body)))
        bit = data.draw(st.integers(0, len(row) * 8 - 1))
        row[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            decode(bytes(row))

    @given(st.binary(max_size=50))
    def test_other_bytes_are_damaged_and_nothing_worse(self, junk: bytes) -> None:
        with pytest.raises(Damaged):
            decode(junk)

    def test_every_field_of_a_receipt_is_kept(self) -> None:
        stored = [field.name for field in msgspec.structs.fields(spool_rows._Stored)]
        assert set(stored) - {"codec"} == {field.name for field in msgspec.structs.fields(Receipt)}

    @given(receipts)
    def test_weight_is_never_too_little(self, row: Receipt) -> None:
        assert weight(row) >= len(encode(row))

    def test_bodies_are_packed_by_several_threads_at_once(self) -> None:
        bodies = [random.randbytes(50) * 2000 for _ in range(64)]
        with ThreadPoolExecutor(8) as threads:
            for _ in range(5):
                assert list(threads.map(lambda body: unpack(*pack(body)), bodies)) == bodies


class TestKeeping:
    async def test_rows_come_back_in_their_order_after_a_new_start(self, directory: Path) -> None:
        spool, receipts = await filled(directory, 1200)
        size = spool.size
        await spool.close()
        spool = Spool(directory, ROOMY)
        assert (spool.rows, spool.size, spool.refused) == (1200, size, 0)
        assert spool.oldest == uuid7_time(receipts[0].stream_id)
        assert await kept(spool, rows=5000) == receipts
        await spool.close()

    async def test_what_is_appended_during_a_commit_is_the_next_commit(
        self, directory: Path, passed: list[str]
    ) -> None:
        spool = Spool(directory, ROOMY)
        first = spool.append(receipt())
        await asyncio.sleep(0)  # the flusher takes it
        await asyncio.gather(first, *[spool.append(receipt()) for _ in range(200)])
        assert len(passed) == 2
        await spool.close()

    async def test_an_answer_comes_after_the_commit(self, directory: Path) -> None:
        spool = Spool(directory, ROOMY)
        seen: list[int] = []

        def look(_: str) -> None:
            other = sqlite3.connect(f"file:{directory}/spool.db?mode=ro", uri=True)
            seen.append(other.execute("SELECT count(*) FROM delivery").fetchone()[0])
            other.close()
            assert not future.done()

        faults.install("spool.appended", look)
        future = spool.append(receipt())
        await future
        faults.clear()
        assert seen == [1]
        await spool.close()

    async def test_an_equal_delivery_is_answered_with_the_first(self, directory: Path) -> None:
        spool = Spool(directory, ROOMY)
        first, same_batch, other_source = receipt("a"), receipt("a"), receipt("a", source_id=2)
        answers = await asyncio.gather(*[spool.append(each) for each in (first, same_batch, other_source)])
        assert answers == [Accepted(first.stream_id), Duplicate(first.stream_id), Accepted(other_source.stream_id)]
        assert await spool.append(receipt("a")) == Duplicate(first.stream_id)
        assert spool.rows == 2
        assert await kept(spool) == [first, other_source]
        await spool.close()

    async def test_a_nonce_comes_once_per_source_whatever_the_key(self, directory: Path) -> None:
        spool = Spool(directory, ROOMY)
        nonce = b"n" * 16
        first, second = (msgspec.structs.replace(receipt(), nonce=nonce) for _ in range(2))
        elsewhere = msgspec.structs.replace(receipt(source_id=2), nonce=nonce)
        assert await spool.append(first) == Accepted(first.stream_id)
        assert await spool.append(second) == Duplicate(first.stream_id)
        assert await spool.append(elsewhere) == Accepted(elsewhere.stream_id)
        await spool.close()

    async def test_a_repetition_with_a_nonce_of_its_own_is_kept_too(self, directory: Path) -> None:
        """The log has to learn of the nonce, or it would take it with another body."""
        spool = Spool(directory, ROOMY)
        first, again, forged, real = nonced("t", "e1"), nonced("u", "e1"), nonced("u", "e2"), nonced("v", "e2")
        rows = [receipt(), first, again, forged, receipt("e1"), real, again]
        answers = await asyncio.gather(*[spool.append(row) for row in rows])
        told = Duplicate(first.stream_id)
        expected = [Accepted(rows[0].stream_id), Accepted(first.stream_id), told, told, told]
        assert answers == [*expected, Accepted(real.stream_id), told]
        assert await spool.append(forged) == told
        assert await kept(spool) == [rows[0], first, again, real]
        before = spool.rows, spool.size, spool.refused
        await spool.close()
        spool = Spool(directory, ROOMY)
        assert (spool.rows, spool.size, spool.refused) == before == (4, spool.size, 0)
        assert await spool.append(again) == told
        await spool.close()

    async def test_a_repetition_of_what_has_gone_to_the_log_holds_no_key(self, directory: Path) -> None:
        spool = Spool(directory, ROOMY)
        first, again, later = nonced("t", "e1"), nonced("u", "e1"), nonced("v", "e1")
        await asyncio.gather(spool.append(first), spool.append(again))
        await spool.delete((await spool.next(0, 1, ROOMY))[0].seq)
        assert await spool.append(nonced("u", "e2")) == Duplicate(first.stream_id)
        assert await spool.append(later) == Accepted(later.stream_id)
        assert await kept(spool) == [again, later]
        await spool.close()

    async def test_a_file_of_the_first_version_goes_on(self, directory: Path) -> None:
        spool, receipts = await filled(directory, 3)
        await spool.close()
        other = sqlite3.connect(directory / "spool.db")
        other.executescript(
            """
            DROP INDEX delivery_key; ALTER TABLE delivery DROP COLUMN first;
            CREATE UNIQUE INDEX delivery_key ON delivery (source_id, key); PRAGMA user_version = 1
            """
        )
        other.close()
        spool = Spool(directory, ROOMY)
        again = msgspec.structs.replace(receipts[0], stream_id=receipt().stream_id, nonce=b"n" * 16)
        assert await spool.append(again) == Duplicate(receipts[0].stream_id)
        assert await kept(spool) == [*receipts, again]
        await spool.close()

    async def test_the_same_receipt_again_is_accepted_and_counted_once(self, directory: Path) -> None:
        spool, (row,) = await filled(directory, 1)
        assert await spool.append(row) == Accepted(row.stream_id)
        assert spool.rows == 1
        await spool.close()

    async def test_batches_are_bounded_in_rows_and_bytes(self, directory: Path) -> None:
        spool, receipts = await filled(directory, 10)
        cost = weight(receipts[0])
        assert await kept(spool, rows=3) == receipts[:3]
        assert await kept(spool, size=4 * cost + cost // 2) == receipts[:4]
        assert await kept(spool, size=1) == receipts[:1], "one row at least"
        (_, _, third, *_) = await spool.next(0, 10, ROOMY)
        assert await kept(spool, after=third.seq) == receipts[3:]
        await spool.close()

    async def test_what_unpacks_to_much_comes_in_small_batches(self, directory: Path) -> None:
        """A body of one letter is next to nothing in the file, and must not fill the memory of who drains it."""
        spool = Spool(directory, ROOMY)
        receipts = [receipt(body=b"a" * 1_000_000) for _ in range(10)]
        await asyncio.gather(*[spool.append(row) for row in receipts])
        assert spool.size < 10_000
        assert await kept(spool, size=3_500_000) == receipts[:3]
        assert await kept(spool) == receipts, "unpacked beside the loop"
        await spool.close()

    @pytest.mark.parametrize(
        ("row", "beside"),
        [
            (receipt(), False),
            (batch(*map(str, range(1001))), True),
            (receipt(body=b"a" * (1 << 20)), True),
        ],
        ids=["usual", "many items", "a large body"],
    )
    async def test_what_takes_long_to_pack_is_packed_in_the_spool_s_thread(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, row: Receipt, beside: bool
    ) -> None:
        threads: list[str] = []

        def noted(one: Receipt) -> bytes:
            threads.append(threading.current_thread().name)
            return encode(one)

        monkeypatch.setattr("ingest.spool.encode", noted)
        spool = Spool(directory, ROOMY)
        await spool.append(row)
        assert [name.startswith("spool") for name in threads] == [beside]
        assert await kept(spool) == [row]
        await spool.close()

    async def test_rows_leave_by_delete_alone(self, directory: Path) -> None:
        spool, receipts = await filled(directory, 10)
        rows = await spool.next(0, 10, ROOMY)
        await spool.refuse(rows[1].seq, "the log says no")
        await spool.delete(rows[3].seq)
        assert (spool.rows, spool.refused) == (6, 1)
        assert await kept(spool) == receipts[4:]
        assert spool.oldest == uuid7_time(receipts[4].stream_id)
        assert await spool.append(msgspec.structs.replace(receipt(), key=receipts[1].key)) == Duplicate(
            receipts[1].stream_id
        ), "a refused delivery is here, and is not taken twice"
        await spool.close()
        spool = Spool(directory, ROOMY)
        assert spool.refused == 0
        assert await kept(spool) == [receipts[1], *receipts[4:]], "a new start tries it again"
        await spool.close()

    async def test_numbers_are_never_given_twice(self, directory: Path) -> None:
        """Or a delete that was meant for old rows would take new ones."""
        spool, _ = await filled(directory, 5)
        last = (await spool.next(0, 10, ROOMY))[-1].seq
        await spool.delete(last)
        await spool.close()
        spool, _ = await filled(directory, 1)
        assert (await spool.next(0, 10, ROOMY))[0].seq > last
        await spool.close()

    async def test_an_empty_spool_gives_its_space_back(self, directory: Path) -> None:
        spool = Spool(directory, ROOMY)
        bodies = [random.randbytes(1 << 20) for _ in range(2 + (SHRINK >> 20))]
        await asyncio.gather(*[spool.append(receipt(body=body)) for body in bodies])
        last = (await spool.next(0, 100, ROOMY))[-1].seq
        await spool.tidy()
        assert len(await kept(spool)) == len(bodies), "what is not empty is left alone"
        await spool.delete(last)
        await spool.tidy()
        assert sum(file.stat().st_size for file in directory.glob("spool.db*")) < 1 << 20
        assert await spool.append(row := receipt()) == Accepted(row.stream_id)
        await spool.close()


class TestBounds:
    async def test_what_does_not_fit_is_refused_at_once(self, directory: Path) -> None:
        spool, _ = await filled(directory, 9, limit=10_000)
        assert not spool.full
        with pytest.raises(Overloaded, match="spool_limit"):
            spool.append(receipt(body=b"x" * 5000))
        with contextlib.suppress(Overloaded):
            for _ in range(10):
                spool.append(receipt(body=random.randbytes(600)))
        await spool.settled()
        assert 9 <= spool.rows < 19
        assert spool.size <= 10_000
        last = (await spool.next(0, 100, ROOMY))[-1].seq
        await spool.delete(last)
        assert spool.size == 0
        await spool.append(receipt(body=random.randbytes(600)))
        await spool.close()

    async def test_what_is_under_way_counts_in_full(self, directory: Path) -> None:
        spool = Spool(directory, 100_000)
        body = b"wheel " * 10_000
        future = spool.append(receipt(body=body))
        with pytest.raises(Overloaded):
            spool.append(receipt(body=body))
        await future
        await spool.append(receipt(body=body))  # compressed by now
        await spool.close()

    async def test_the_count_is_the_same_after_a_new_start(self, directory: Path) -> None:
        spool, _ = await filled(directory, 20)
        rows = await spool.next(0, 20, ROOMY)
        await spool.refuse(rows[0].seq, "no")
        await spool.delete(rows[9].seq)
        before = (spool.rows + spool.refused, spool.size)
        await spool.close()
        spool = Spool(directory, ROOMY)
        assert (spool.rows + spool.refused, spool.size) == before
        await spool.close()

    async def test_full_shows_when_the_limit_is_near(self, directory: Path) -> None:
        spool, _ = await filled(directory, 1)
        spool.limit = spool.size + spool.size // 200
        assert spool.full
        await spool.close()


class TestPace:
    async def test_three_come_in_for_four_that_leave(self) -> None:
        pace = Pace()
        pace.begin()
        admitted = 0

        async def senders() -> None:
            nonlocal admitted
            while True:
                await pace.admit(100)
                admitted += 100

        task = asyncio.create_task(senders())
        moved = 0
        for _ in range(100):
            await asyncio.sleep(0)
            pace.moved(400)
            moved += 400
            await asyncio.sleep(0)
        assert SHARE * moved <= admitted <= SHARE * moved + BURST + 100
        pace.end()
        task.cancel()

    async def test_the_end_lets_everybody_in(self) -> None:
        pace = Pace()
        pace.begin()
        await pace.admit(10_000)
        waiting = asyncio.create_task(pace.admit(1))
        await asyncio.sleep(0)
        assert not waiting.done()
        pace.end()
        await waiting
        await pace.admit(1_000_000)
        await pace.admit(1)

    async def test_what_nobody_used_is_not_saved_up(self) -> None:
        pace = Pace()
        pace.begin()
        for _ in range(1000):
            pace.moved(1000)
        await pace.admit(int(BURST))
        waiting = asyncio.create_task(pace.admit(1))
        await asyncio.sleep(0)
        assert not waiting.done()
        pace.end()
        await waiting


class TestBroken:
    async def test_a_full_disk_is_unavailable_and_acknowledges_nothing(self, directory: Path) -> None:
        spool, receipts = await filled(directory, 20)
        sqlite = spool._store._sqlite
        (pages,) = sqlite.execute("PRAGMA page_count").fetchone()
        sqlite.execute(f"PRAGMA max_page_count = {pages}")  # the same error as ENOSPC: SQLITE_FULL
        answers = await asyncio.gather(
            *[spool.append(receipt(body=random.randbytes(50_000))) for _ in range(9)], return_exceptions=True
        )
        assert all(type(answer) is Unavailable and "full" in str(answer) for answer in answers)
        assert await kept(spool) == receipts
        with pytest.raises(Unavailable):
            await spool.remember("big", random.randbytes(500_000))
        sqlite.execute("PRAGMA max_page_count = 1000000")
        more = receipt()
        assert await spool.append(more) == Accepted(more.stream_id)
        assert await kept(spool) == [*receipts, more]
        assert spool.size == sum(len(encode(row)) + spool_rows.OVERHEAD for row in [*receipts, more])
        await spool.close()

    async def test_a_full_disk_is_emptied_with_the_reserve(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spool, receipts = await filled(directory, 20)
        reserve, store = directory / "reserve", spool._store
        assert reserve.stat().st_size == spool_reserve.SIZE

        class FullDisk:
            """SQLite on a disk that has only what the reserve gives away."""

            def __init__(self, sqlite: sqlite3.Connection) -> None:
                self.sqlite = sqlite

            def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
                if statement.startswith(("DELETE", "UPDATE")) and reserve.exists():
                    error = sqlite3.OperationalError("database or disk is full")
                    error.sqlite_errorcode = sqlite3.SQLITE_FULL
                    raise error
                return self.sqlite.execute(statement, *arguments)

            def __getattr__(self, name: str) -> Any:
                return getattr(self.sqlite, name)

        room = spool_reserve.SIZE
        monkeypatch.setattr(spool_reserve, "free", lambda _: room)
        monkeypatch.setattr(store, "_sqlite", FullDisk(store._sqlite))
        rows = await spool.next(0, 100, ROOMY)
        with structlog.testing.capture_logs() as said:
            await spool.refuse(rows[0].seq, "no")
            await spool.delete(rows[9].seq)
            await spool.delete(rows[14].seq)
        assert [line["event"] for line in said] == ["spool.disk_full"]
        assert (spool.rows, spool.refused, reserve.exists()) == (5, 1, False)
        for adding in (spool.append(receipt()), spool.check()):
            with pytest.raises(Unavailable, match="full"):
                await adding
        assert await kept(spool) == receipts[15:]
        room = 2 * spool_reserve.SIZE
        more = receipt()
        assert await spool.append(more) == Accepted(more.stream_id)
        assert reserve.stat().st_size == spool_reserve.SIZE
        await spool.close()

    async def test_a_damaged_row_is_told_from_its_neighbours(self, directory: Path) -> None:
        spool, receipts = await filled(directory, 3)
        await spool.close()
        other = sqlite3.connect(directory / "spool.db")
        (blob,) = other.execute("SELECT receipt FROM delivery WHERE seq = 2").fetchone()
        flipped = blob[:100] + bytes([blob[100] ^ 1]) + blob[101:]
        other.execute("UPDATE delivery SET receipt = ? WHERE seq = 2", (flipped,))
        other.commit()
        other.close()
        spool = Spool(directory, ROOMY)
        first, second, third = await spool.next(0, 10, ROOMY)
        assert isinstance(second, Unreadable)
        assert "checksum" in second.fault
        assert [row.receipt for row in (first, third) if isinstance(row, Spooled)] == [receipts[0], receipts[2]]
        await spool.close()

    @pytest.mark.parametrize("where", [0, 4096, 3 * 4096])
    async def test_a_damaged_file_stops_the_start_and_is_left_alone(self, directory: Path, where: int) -> None:
        spool, _ = await filled(directory, 100)
        await spool.close()
        path = directory / "spool.db"
        with open(path, "r+b") as file:
            file.seek(where)
            file.write(b"\xa5" * 2000)
        before = path.read_bytes()
        with pytest.raises(ConfigError, match=r"expected a sound file, got.*acknowledged.*recover"):
            Spool(directory, ROOMY)
        assert path.read_bytes() == before

    async def test_a_file_cut_short_stops_the_start(self, directory: Path) -> None:
        spool, _ = await filled(directory, 100)
        await spool.close()
        os.truncate(directory / "spool.db", 5 * 4096)
        with pytest.raises(ConfigError, match="sound"):
            Spool(directory, ROOMY)

    async def test_a_newer_file_stops_the_start(self, directory: Path) -> None:
        await Spool(directory, ROOMY).close()
        other = sqlite3.connect(directory / "spool.db")
        other.execute(f"PRAGMA user_version = {VERSION + 1}")
        other.close()
        with pytest.raises(ConfigError, match=rf"expected version {VERSION}, got {VERSION + 1} of a newer"):
            Spool(directory, ROOMY)

    async def test_a_directory_has_one_owner(self, directory: Path) -> None:
        spool = Spool(directory, ROOMY)
        with pytest.raises(ConfigError, match="spool_dir of its own"):
            Spool(directory, ROOMY)
        await spool.close()
        await Spool(directory, ROOMY).close()

    def test_what_is_no_directory_is_said(self, directory: Path) -> None:
        directory.write_text("a file")
        with pytest.raises(ConfigError, match="expected a directory"):
            Spool(directory, ROOMY)

    async def test_nobody_else_may_read_it(self, directory: Path) -> None:
        before = os.umask(0)
        try:
            spool, _ = await filled(directory, 1)
        finally:
            os.umask(before)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}
        assert "spool.db-wal" in modes
        assert set(modes.values()) == {0o600}, modes
        await spool.close()

    async def test_every_commit_is_synced(self, directory: Path) -> None:
        spool, _ = await filled(directory, 1)
        run = spool._store._sqlite.execute
        assert run("PRAGMA journal_mode").fetchone() == ("wal",)
        assert run("PRAGMA synchronous").fetchone() == (2,), "FULL"
        await spool.close()


class TestMemory:
    async def test_values_last(self, directory: Path) -> None:
        spool = Spool(directory, ROOMY)
        assert spool.recall("a") is None
        await spool.remember("a", b"1")
        await spool.remember("a", b"2")
        assert spool.recall("a") == b"2"
        await spool.close()
        spool = Spool(directory, ROOMY)
        assert spool.recall("a") == b"2"
        await spool.close()

    async def test_sources_are_remembered_as_the_database_gave_them(self, directory: Path) -> None:
        spool = Spool(directory, ROOMY)
        assert recall_sources(spool) == []
        rows = [
            SourceRow(2, 1, "b", {"source": "b", "n": [1, {"ü": None}]}, (b"sealed", b"\0")),
            SourceRow(1, 1, "a", {}, ()),
        ]
        await remember_sources(spool, rows)
        assert recall_sources(spool) == sorted(rows, key=lambda row: row.id)
        await spool.remember("sources", b"of another version")
        assert recall_sources(spool) == []
        await spool.close()
