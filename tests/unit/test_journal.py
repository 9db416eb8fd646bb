"""Group commit: batches form by themselves, a bad row fails alone, no row is forgotten, the queue is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from events.errors import BadRow, Overloaded, Unavailable
from events.journal import RETRIES, Journal

pytestmark = pytest.mark.anyio


class Store:
    """A store that commits when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.bad: set[int] = set()
        self.forgiving = False  # refuse once only
        self.away = False

    async def write(self, batch: Sequence[int]) -> list[int]:
        self.batches.append(list(batch))
        await self.gate.wait()
        if self.away:
            raise Unavailable("away")
        if self.bad & set(batch):
            if self.forgiving:
                self.bad = set()
            raise BadRow("no")
        return [row * 10 for row in batch]

    def journal(self, **bounds: int) -> Journal[int, int]:
        return Journal(self.write, lambda row: row, **bounds)


async def test_what_queued_during_a_commit_is_the_next_batch() -> None:
    store = Store()
    journal = store.journal()
    store.gate.clear()
    futures = [journal.append(1)]
    await asyncio.sleep(0)  # the flusher takes the first row
    futures += [journal.append(row) for row in (2, 3, 4)]
    store.gate.set()
    assert await asyncio.gather(*futures) == [10, 20, 30, 40]
    assert store.batches == [[1], [2, 3, 4]]


async def test_a_row_that_comes_while_the_flusher_signs_off_finds_one() -> None:
    store = Store()
    journal = store.journal()
    for row in range(200):  # each resolves before the next is queued, at the very end of the flusher's life
        assert await journal.append(row) == row * 10
    await journal.drain()
    assert [row for batch in store.batches for row in batch] == list(range(200))


async def test_batches_are_bounded_in_rows_and_bytes() -> None:
    store = Store()
    journal = store.journal(max_rows=3, max_bytes=10)
    store.gate.clear()
    futures = [journal.append(row) for row in (1, 1, 1, 1, 9, 50, 2)]
    store.gate.set()
    await asyncio.gather(*futures)
    assert store.batches == [[1, 1, 1], [1, 9], [50], [2]]


@pytest.mark.parametrize("bad", [{0}, {3}, {6}, {0, 6}, {2, 3}])
async def test_bad_rows_fail_alone(bad: set[int]) -> None:
    store = Store()
    store.bad = bad
    journal = store.journal()
    results = await asyncio.gather(*[journal.append(row) for row in range(7)], return_exceptions=True)
    for row, result in enumerate(results):
        assert isinstance(result, BadRow) if row in bad else result == row * 10
    assert all(store.batches.count([row]) == RETRIES for row in bad), "a row alone is tried again before it is given up"


async def test_a_row_refused_once_is_written_by_the_retry() -> None:
    store = Store()
    store.bad, store.forgiving = {5}, True  # the other writer has gone on
    assert await store.journal().append(5) == 50
    assert store.batches == [[5], [5]]


async def test_a_full_queue_is_refused_at_once() -> None:
    store = Store()
    journal = store.journal(max_waiting=2)
    store.gate.clear()
    futures = [journal.append(1)]
    await asyncio.sleep(0)
    futures += [journal.append(2), journal.append(3)]
    with pytest.raises(Overloaded):
        journal.append(4)
    store.gate.set()
    assert await asyncio.gather(*futures) == [10, 20, 30]


async def test_a_store_that_is_away_fails_all_and_the_journal_goes_on() -> None:
    store = Store()
    store.away = True
    journal = store.journal()
    results = await asyncio.gather(*[journal.append(row) for row in range(3)], return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    store.away = False
    assert await journal.append(7) == 70


async def test_a_caller_that_goes_away_does_not_take_its_row_along() -> None:
    store = Store()
    journal = store.journal()
    store.gate.clear()
    leaving, staying = journal.append(1), journal.append(2)
    await asyncio.sleep(0)
    leaving.cancel()
    store.gate.set()
    assert await staying == 20
    assert store.batches == [[1, 2]]
