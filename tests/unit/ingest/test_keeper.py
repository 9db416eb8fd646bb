"""Receipts go to the log or to the spool, and from there to the log: once, in order, and nobody waits for long.

The log is a fake that can be away, hang, lose its answers, refuse rows; the spool is the real one.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from events import faults
from events.errors import BadRow, ConfigError, OutcomeUnknown, Overloaded, Unavailable
from events.ids import Clock
from events.types import Accepted, Appended, Duplicate, Receipt
from ingest import keeper as keepers
from ingest.keeper import Keeper
from ingest.readiness import AWAY, STARTING, Full, NotReady, Ready, Spooling
from ingest.spool import Spool
from tests.rows import receipt
from tests.system import until

pytestmark = pytest.mark.anyio

SOON = 0.05
"""The patience of these keepers, in seconds."""


class FakeLog:
    """What PostgreSQL is to the keeper, dedup included."""

    def __init__(self) -> None:
        self.rows: list[Receipt] = []
        self.writes: list[int] = []
        self.asked = 0
        self.away: Exception | None = None
        self.mute = False  # commits, and says that the connection broke
        self.bad: set[bytes] = set()
        self.answers = asyncio.Event()
        self.answers.set()
        self._ids: dict[tuple[int, bytes], UUID] = {}
        self._written: set[UUID] = set()

    async def ask(self) -> None:
        self.asked += 1
        await self.answers.wait()
        if self.away is not None:
            raise self.away

    async def reach(self) -> None:
        if not self.answers.is_set():
            raise OutcomeUnknown("no answer")
        await self.ask()

    async def write(self, batch: Sequence[Receipt]) -> list[Appended]:
        self.writes.append(len(batch))
        await asyncio.sleep(0)
        await self.answers.wait()
        if self.away is not None:
            raise self.away
        if any(row.key in self.bad for row in batch):
            raise BadRow("the log says no")
        results = [self._append(row) for row in batch]
        if self.mute:
            raise OutcomeUnknown("the answer was lost")
        return results

    def _append(self, row: Receipt) -> Appended:
        first = self._ids.setdefault((row.source_id, row.key), row.stream_id)
        if first != row.stream_id:
            return Duplicate(first)
        if first not in self._written:
            self._written.add(first)
            self.rows.append(row)
        return Accepted(first)

    @property
    def ids(self) -> list[UUID]:
        return [row.stream_id for row in self.rows]


Make = Callable[..., Awaitable[Keeper]]


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(directory: Path) -> Spool:
    return Spool(directory, 1 << 30)


@pytest.fixture
async def make(log: FakeLog, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Keepers that are impatient and ask often; each is ready as soon as the log is there."""
    for pause in ("FIRST_PAUSE", "LONGEST_PAUSE", "CIRCUIT_PAUSE"):
        monkeypatch.setattr(keepers, pause, 0.002)
    monkeypatch.setattr(keepers, "ASK", SOON)
    made: list[Keeper] = []

    async def make(spool: Spool | None = None, patience: float = SOON) -> Keeper:
        keeper = Keeper(log, Clock(), spool, patience=patience)
        keeper.start()
        made.append(keeper)
        if log.away is None:
            await direct(keeper)
        return keeper

    yield make
    for keeper in made:
        await keeper.close(0)


async def direct(keeper: Keeper) -> None:
    async def ready() -> bool:
        return isinstance(await keeper.readiness(), Ready)

    await until(ready, "receipts go to the log", 10)


async def appended(keeper: Keeper, *receipts: Receipt) -> list[Appended | BaseException]:
    return await asyncio.gather(*[keeper.append(row) for row in receipts], return_exceptions=True)


def accepted(*receipts: Receipt) -> list[Appended]:
    return [Accepted(row.stream_id) for row in receipts]


def several(count: int) -> list[Receipt]:
    return [receipt() for _ in range(count)]


class TestWithSpool:
    async def test_the_log_is_where_receipts_go(self, log: FakeLog, spool: Spool, make: Make) -> None:
        keeper = await make(spool)
        rows = several(5)
        assert await appended(keeper, *rows) == accepted(*rows)
        assert log.rows == rows
        assert spool.rows == 0
        assert await keeper.readiness() == Ready()

    @pytest.mark.parametrize(
        "error", [Unavailable("away"), OutcomeUnknown("broke"), ConfigError("database", ["schema"])]
    )
    async def test_while_it_is_away_they_are_accepted_all_the_same(
        self, log: FakeLog, spool: Spool, make: Make, error: Exception
    ) -> None:
        keeper = await make(spool)
        log.away = error
        rows = several(5)
        assert await appended(keeper, *rows) == accepted(*rows)
        assert spool.rows == 5
        state = await keeper.readiness()
        assert isinstance(state, Spooling)
        assert (state.rows, state.refused, state.reason) == (5, 0, str(error))
        assert state.size > 0
        assert 0 <= state.age < 60
        log.away = None
        await direct(keeper)
        assert log.rows == rows
        assert spool.rows == 0

    async def test_a_commit_whose_answer_was_lost_is_in_the_log_once(
        self, log: FakeLog, spool: Spool, make: Make
    ) -> None:
        keeper = await make(spool)
        log.mute = True
        rows = several(3)
        assert await appended(keeper, *rows) == accepted(*rows)
        assert log.rows == rows, "it happened"
        with capture_logs() as lines:
            log.mute = False
            await direct(keeper)
        assert log.rows == rows
        assert "spool.duplicate" not in {line["event"] for line in lines}, "its own id is no duplicate"

    async def test_a_late_commit_is_not_waited_for_and_counts_once(
        self, log: FakeLog, spool: Spool, make: Make
    ) -> None:
        keeper = await make(spool)
        log.answers.clear()
        row, later = receipt(), receipt()
        assert await appended(keeper, row) == accepted(row)
        before = len(log.writes)
        assert await appended(keeper, later) == accepted(later), "this one does not even ask"
        assert log.rows == []
        assert len(log.writes) == before
        log.answers.set()
        await direct(keeper)
        assert log.rows == [row, later]

    async def test_who_queued_behind_a_failed_batch_learns_it_from_that(
        self, log: FakeLog, spool: Spool, make: Make
    ) -> None:
        keeper = await make(spool)
        log.answers.clear()
        rows = several(1300)  # three batches
        assert await appended(keeper, *rows) == accepted(*rows)
        assert len(log.writes) == 1
        log.answers.set()
        await direct(keeper)
        assert log.ids == [row.stream_id for row in rows]

    async def test_a_start_without_the_log(self, log: FakeLog, spool: Spool, make: Make) -> None:
        log.away = Unavailable("not there yet")
        keeper = await make(spool)
        row = receipt()
        assert await appended(keeper, row) == accepted(row)
        log.away = None
        await direct(keeper)
        assert log.rows == [row]

    async def test_survivors_of_an_earlier_process_come_first(self, log: FakeLog, directory: Path, make: Make) -> None:
        log.away = Unavailable("away")
        rows = several(4)
        first = Keeper(log, Clock(), Spool(directory, 1 << 30))
        first.start()
        assert await appended(first, *rows[:3]) == accepted(*rows[:3])
        await first.close(0)
        second = await make(Spool(directory, 1 << 30))
        log.away = None
        assert await appended(second, rows[3]) == accepted(rows[3])
        await direct(second)
        assert log.rows == rows

    async def test_equal_deliveries_count_once_wherever_the_first_one_is(
        self, log: FakeLog, spool: Spool, make: Make
    ) -> None:
        keeper = await make(spool)
        in_the_log = receipt("a")
        await keeper.append(in_the_log)
        log.away = Unavailable("away")
        repeated, fresh = receipt("a"), receipt("b")
        assert await appended(keeper, repeated, fresh) == accepted(repeated, fresh), "nobody can know"
        assert await appended(keeper, receipt("b")) == [Duplicate(fresh.stream_id)]
        with capture_logs() as lines:
            log.away = None
            await direct(keeper)
        assert log.rows == [in_the_log, fresh]
        (said,) = [line for line in lines if line["event"] == "spool.duplicate"]
        assert (said["delivery"], said["first"]) == (str(repeated.stream_id), str(in_the_log.stream_id))

    async def test_what_the_log_refuses_stays_and_its_neighbours_go(
        self, log: FakeLog, spool: Spool, directory: Path, make: Make
    ) -> None:
        log.away = Unavailable("away")
        keeper = await make(spool)
        rows = several(7)
        log.bad = {rows[2].key, rows[6].key}
        await appended(keeper, *rows)
        with capture_logs() as lines:
            log.away = None
            await direct(keeper)
        good = [row for row in rows if row.key not in log.bad]
        assert log.rows == good
        assert await keeper.readiness() == Ready(refused=2)
        said = [line for line in lines if line["event"] == "spool.refused"]
        assert [line["delivery"] for line in said] == [str(rows[2].stream_id), str(rows[6].stream_id)]
        assert all(line["log_level"] == "error" and "says no" in line["reason"] for line in said)
        await keeper.close()
        log.bad = set()
        again = await make(Spool(directory, 1 << 30))
        await direct(again)
        assert log.rows == [*good, rows[2], rows[6]]

    async def test_what_the_log_refuses_now_is_refused_now(self, log: FakeLog, spool: Spool, make: Make) -> None:
        keeper = await make(spool)
        bad, good = receipt(), receipt()
        log.bad = {bad.key}
        refused, taken = await appended(keeper, bad, good)
        assert isinstance(refused, BadRow)
        assert taken == Accepted(good.stream_id)
        assert spool.rows == 0

    async def test_a_damaged_row_stays_and_its_neighbours_go(
        self, log: FakeLog, spool: Spool, directory: Path, make: Make
    ) -> None:
        log.away = Unavailable("away")
        keeper = await make(spool)
        rows = several(3)
        await appended(keeper, *rows)
        other = sqlite3.connect(directory / "spool.db")
        other.execute("UPDATE delivery SET receipt = zeroblob(50) WHERE seq = 2")
        other.commit()
        other.close()
        log.away = None
        await direct(keeper)
        assert log.rows == [rows[0], rows[2]]
        assert await keeper.readiness() == Ready(refused=1)

    async def test_new_receipts_wait_for_the_last_commit_only_and_do_not_overtake_it(
        self, log: FakeLog, spool: Spool, make: Make
    ) -> None:
        log.away = Unavailable("away")
        keeper = await make(spool, patience=10)
        rows = several(3)
        await appended(keeper, *rows)
        log.away = None
        reached = asyncio.Event()
        go_on = asyncio.Event()
        write = log.write

        async def slowly(batch: Sequence[Receipt]) -> list[Appended]:
            reached.set()
            await go_on.wait()
            return await write(batch)

        log.write = slowly  # type: ignore[method-assign]
        keeper._log._log = log
        await reached.wait()
        new = receipt()
        waiting = asyncio.create_task(keeper.append(new))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert spool.rows == 3, "it is not spooled any more"
        go_on.set()
        assert await waiting == Accepted(new.stream_id)
        assert log.rows == [*rows, new]

    async def test_what_is_on_its_way_into_the_spool_is_moved_too(self, log: FakeLog, spool: Spool, make: Make) -> None:
        log.away = Unavailable("away")
        keeper = await make(spool)
        disk = threading.Event()
        spool._thread.submit(disk.wait)
        row = receipt()
        waiting = asyncio.create_task(keeper.append(row))
        await asyncio.sleep(0)
        reached = asyncio.Event()
        reach = log.reach

        async def noted() -> None:
            await reach()
            reached.set()

        log.reach = noted  # type: ignore[method-assign]
        log.away = None
        await reached.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        disk.set()
        assert await waiting == Accepted(row.stream_id)
        await direct(keeper)
        assert log.rows == [row]

    async def test_who_waited_for_a_last_commit_that_failed_is_spooled(
        self, log: FakeLog, spool: Spool, make: Make
    ) -> None:
        log.away = Unavailable("away")
        keeper = await make(spool)
        rows = several(3)
        await appended(keeper, *rows)
        log.mute, log.away = True, None

        async def tried() -> bool:
            return bool(log.writes)

        await until(tried, "the last commit is tried", 10)
        new = receipt()
        assert await appended(keeper, new) == accepted(new)
        assert spool.rows == 4
        log.mute = False
        await direct(keeper)
        assert log.rows == [*rows, new]

    async def test_a_full_spool_is_overloaded_and_not_ready(self, log: FakeLog, directory: Path, make: Make) -> None:
        log.away = Unavailable("away")
        keeper = await make(Spool(directory, 3000))
        rows = [receipt(body=random.randbytes(400)) for _ in range(9)]
        results = await appended(keeper, *rows)
        kept = [row for row, result in zip(rows, results, strict=True) if isinstance(result, Accepted)]
        assert 0 < len(kept) < 9
        assert all(isinstance(result, Accepted | Overloaded) for result in results)
        small = receipt(body=b"")
        while (await appended(keeper, small)) == accepted(small):
            kept.append(small)
            small = receipt(body=b"x" * (len(small.body) + 1))
        keeper._spool.limit = keeper._spool.size  # type: ignore[union-attr]
        state = await keeper.readiness()
        assert isinstance(state, Full)
        assert state.rows == len(kept)
        log.away = None
        await direct(keeper)
        assert log.rows == kept

    async def test_a_broken_disk_is_unavailable_and_not_ready(self, log: FakeLog, spool: Spool, make: Make) -> None:
        log.away = Unavailable("away")
        keeper = await make(spool)
        row = receipt()
        await keeper.append(row)
        sqlite = spool._store._sqlite
        sqlite.execute("PRAGMA query_only = on")
        (failed,) = await appended(keeper, receipt())
        assert type(failed) is Unavailable
        state = await keeper.readiness()
        assert isinstance(state, NotReady)
        assert "spool.db" in state.reason
        sqlite.execute("PRAGMA query_only = off")
        assert isinstance(await keeper.readiness(), Spooling)
        log.away = None
        await direct(keeper)
        assert log.rows == [row]

    async def test_asking_whether_it_is_ready_changes_nothing(self, log: FakeLog, spool: Spool, make: Make) -> None:
        keeper = await make(spool)
        log.answers.clear()
        asked = log.asked
        assert [type(await keeper.readiness()) for _ in range(3)] == [Spooling] * 3
        assert log.asked == asked + 1, "what was asked and is not answered holds a connection: one is enough"
        log.answers.set()
        row = receipt()
        assert await appended(keeper, row) == accepted(row)
        assert log.rows == [row]
        assert spool.rows == 0

    async def test_the_end_drains_what_it_can(self, log: FakeLog, directory: Path, make: Make) -> None:
        log.away = Unavailable("away")
        keeper = await make(Spool(directory, 1 << 30))
        rows = several(3)
        await appended(keeper, *rows)
        log.away = None
        await keeper.close()
        assert log.rows == rows
        spool = Spool(directory, 1 << 30)
        assert spool.rows == 0
        await spool.close()

    async def test_the_end_without_a_log_keeps_all(self, log: FakeLog, directory: Path, make: Make) -> None:
        log.away = Unavailable("away")
        keeper = await make(Spool(directory, 1 << 30))
        rows = several(3)
        waiting = asyncio.gather(*[keeper.append(row) for row in rows])
        await asyncio.sleep(0)
        await keeper.close()
        assert await waiting == accepted(*rows)
        spool = Spool(directory, 1 << 30)
        assert spool.rows == 3
        await spool.close()

    async def test_the_clock_is_remembered(self, log: FakeLog, directory: Path) -> None:
        clock = Clock(-7.25)
        keeper = Keeper(log, clock, Spool(directory, 1 << 30))
        keeper.start()
        await direct(keeper)
        await asyncio.to_thread(lambda: None)  # the clock is written before the next question is
        await direct(keeper)
        await keeper.close()
        other = Clock()
        spool = Spool(directory, 1 << 30)
        Keeper(log, other, spool)
        assert other.offset == -7.25
        await spool.close()

    async def test_every_commit_is_told(self, log: FakeLog, spool: Spool, make: Make) -> None:
        told: list[UUID] = []
        keeper = Keeper(log, Clock(), spool, committed=lambda batch: told.extend(row.stream_id for row in batch))
        keeper.start()
        await direct(keeper)
        rows = several(4)
        await appended(keeper, *rows[:2])
        log.away = Unavailable("away")
        await appended(keeper, *rows[2:])
        log.away = None
        await direct(keeper)
        assert told == [row.stream_id for row in rows]
        await keeper.close()


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_each_senders_deliveries_are_there_once_and_in_order(
    log: FakeLog, directory: Path, make: Make, seed: int
) -> None:
    """The log goes away, hangs and loses answers, the process ends and starts, at random; senders go on."""
    chance = random.Random(seed)
    acknowledged: dict[int, list[UUID]] = {number: [] for number in range(8)}
    keeper = await make(Spool(directory, 1 << 30))
    ending = False

    async def send(number: int) -> None:
        while not ending:
            row = receipt()
            assert await keeper.append(row) == Accepted(row.stream_id)
            acknowledged[number].append(row.stream_id)

    for _ in range(3):
        ending = False
        senders = [asyncio.create_task(send(number)) for number in acknowledged]
        for _ in range(12):
            match chance.choice(["away", "hang", "mute", "back"]):
                case "away":
                    log.away = Unavailable("away")
                case "hang":
                    log.answers.clear()
                case "mute":
                    log.mute = True
                case _:
                    log.away, log.mute = None, False
                    log.answers.set()
            goal = sum(map(len, acknowledged.values())) + chance.randrange(60)
            while sum(map(len, acknowledged.values())) < goal:
                await asyncio.sleep(0)
        ending = True
        await asyncio.gather(*senders)
        await keeper.close(0)
        keeper = (
            await make(Spool(directory, 1 << 30))
            if log.away is None and log.answers.is_set()
            else await waking(make, log, directory)
        )
    log.away, log.mute = None, False
    log.answers.set()
    await direct(keeper)
    place = {id: position for position, id in enumerate(log.ids)}
    assert len(place) == len(log.rows) == sum(map(len, acknowledged.values()))
    for ids in acknowledged.values():
        positions = [place[id] for id in ids]
        assert positions == sorted(positions)


async def waking(make: Make, log: FakeLog, directory: Path) -> Keeper:
    """A keeper that starts while the log is away."""
    log.away, log.mute = Unavailable("away"), False
    log.answers.set()
    return await make(Spool(directory, 1 << 30))


class TestWithoutSpool:
    async def test_away_is_said_without_asking(self, log: FakeLog, make: Make) -> None:
        keeper = await make()
        log.answers.clear()
        (late,) = await appended(keeper, receipt())
        assert isinstance(late, OutcomeUnknown)
        asked = len(log.writes)
        results = await appended(keeper, *several(50))
        assert all(type(result) is Unavailable for result in results)
        assert len(log.writes) == asked
        assert isinstance(await keeper.readiness(), NotReady)

    async def test_no_number_of_questions_turns_a_delivery_away(self, log: FakeLog, make: Make) -> None:
        keeper = await make()
        log.away = Unavailable("too busy for questions")
        assert await keeper.readiness() == NotReady("too busy for questions", AWAY)
        log.away = None
        row = receipt()
        assert await appended(keeper, row) == accepted(row)

    async def test_it_comes_back_by_itself(self, log: FakeLog, make: Make) -> None:
        keeper = await make()
        log.away = Unavailable("restarting")
        (result,) = await appended(keeper, receipt())
        assert isinstance(result, Unavailable)
        assert await keeper.readiness() == NotReady("restarting")
        log.away = None
        await direct(keeper)
        row = receipt()
        assert await appended(keeper, row) == accepted(row)

    async def test_a_start_without_the_log_refuses(self, log: FakeLog, make: Make) -> None:
        log.away = Unavailable("not there yet")
        keeper = await make()
        (result,) = await appended(keeper, receipt())
        assert isinstance(result, Unavailable)
        assert log.writes == []
        assert await keeper.readiness() == NotReady("not there yet", STARTING)

    async def test_a_full_queue_is_no_reason_to_leave(self, log: FakeLog) -> None:
        keeper = Keeper(log, Clock(), max_waiting=1)
        keeper.start()
        await direct(keeper)
        rows = several(3)
        results = await appended(keeper, *rows)
        assert any(isinstance(result, Overloaded) for result in results)
        assert await keeper.readiness() == Ready()
        await keeper.close()


async def test_a_drain_outruns_any_number_of_senders(log: FakeLog, directory: Path, make: Make) -> None:
    """They send without a pause while the spool is moved, and it comes to its end."""
    log.away = Unavailable("away")
    keeper = await make(Spool(directory, 1 << 30), 10)
    rows = several(4000)
    await appended(keeper, *rows)
    drained: list[str] = []
    faults.install("spool.drain.deleted", drained.append)
    ending = False

    async def send() -> None:
        while not ending:
            await keeper.append(receipt())

    senders = [asyncio.create_task(send()) for _ in range(3000)]
    log.away = None
    await direct(keeper)
    ending = True
    await asyncio.gather(*senders)
    faults.clear()
    assert log.rows[:4000] == rows
    assert len(drained) < 100
