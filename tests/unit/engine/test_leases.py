"""A process that claims again what it lost tells the two holdings apart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from events.database import Database
from events.work import Held, WorkList
from executor.engine.leases import Leases

pytestmark = pytest.mark.anyio

ITEM = UUID(int=1)


class Work(WorkList):
    """A work list that answers what a test says."""

    def __init__(self) -> None:
        super().__init__(Database("", "worker"), owner="me", lease=30.0)
        self.current: dict[UUID, int] = {}
        self.given_back: list[Held] = []

    async def renew(self, held: Sequence[Held]) -> set[UUID]:
        return {id for id, token in held if self.current.get(id) == token}

    async def give_back(self, held: Sequence[Held]) -> set[UUID]:
        self.given_back += held
        return {id for id, _ in held}


async def forever() -> None:
    await asyncio.Event().wait()


def task() -> asyncio.Task[None]:
    return asyncio.create_task(forever())


async def test_what_is_lost_is_cancelled_and_what_is_kept_is_not() -> None:
    work = Work()
    leases, lost, kept = Leases(work), task(), task()
    leases.hold(ITEM, 1, lost)
    leases.hold(UUID(int=2), 7, kept)
    work.current = {ITEM: 2, UUID(int=2): 7}
    await leases.renew()
    assert lost.cancelling()
    assert not kept.cancelling()
    assert len(leases) == 1
    kept.cancel()


async def test_a_second_claim_ends_the_first_and_is_not_ended_by_it() -> None:
    work = Work()
    leases, older, newer = Leases(work), task(), task()
    leases.hold(ITEM, 1, older)
    leases.hold(ITEM, 2, newer)
    assert older.cancelling()
    leases.drop(ITEM, 1)  # the older one's last word
    work.current = {ITEM: 2}
    await leases.renew()
    assert not newer.cancelling()
    assert len(leases) == 1
    newer.cancel()


async def test_an_orphan_is_given_back_once_under_its_newest_token() -> None:
    work = Work()
    leases = Leases(work)
    leases.orphan(ITEM, 3)
    leases.orphan(ITEM, 2)
    await leases.renew()
    await leases.renew()
    assert work.given_back == [(ITEM, 3)]


async def test_a_lease_is_sure_from_when_it_was_asked_for_and_for_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("executor.engine.leases.time.monotonic", lambda: clock[0])
    work, held = Work(), task()
    leases = Leases(work)
    leases.hold(ITEM, 1, held, since=990.0)
    clock[0] = 1019.9
    assert leases.sure(ITEM, 1)
    assert not leases.sure(ITEM, 2)
    clock[0] = 1020.0
    assert not leases.sure(ITEM, 1), "somebody else may have it, though nobody has said so"
    work.current = {ITEM: 1}
    await leases.renew()
    clock[0] = 1049.9
    assert leases.sure(ITEM, 1)
    leases.drop(ITEM, 1)
    assert not leases.sure(ITEM, 1)
    held.cancel()


async def test_a_renewal_is_as_old_as_its_question(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("executor.engine.leases.time.monotonic", lambda: clock[0])

    class Slow(Work):
        async def renew(self, held: Sequence[Held]) -> set[UUID]:
            clock[0] += 29.0  # stopped between the commit and the answer
            return await super().renew(held)

    work, held = Slow(), task()
    leases = Leases(work)
    leases.hold(ITEM, 1, held)
    work.current = {ITEM: 1}
    await leases.renew()
    clock[0] = 1029.9
    assert leases.sure(ITEM, 1)
    clock[0] = 1030.0
    assert not leases.sure(ITEM, 1)
    held.cancel()
