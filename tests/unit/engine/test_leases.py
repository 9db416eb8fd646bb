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
