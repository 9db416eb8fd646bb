"""The engine of one worker process: takes due work, sees to it that each item is done or let go, and keeps its leases.

A doorbell makes it `take` until there is nothing due or no room. How many runs it holds is its own setting and does not
hang on Dramatiq's threads; while it is full, `take` waits, and that is the back-pressure. What goes wrong:

- the lease is lost: stop; somebody else has it;
- the log is away: stop, and give the work back when it answers again;
- anything else, our own fault or the data's: the work item comes back after a delay that grows, and is parked after
  `max_recoveries` attempts without progress.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from events import faults
from events.doorbell import Doorbell
from events.errors import HeadraceError, LeaseLost, Unavailable
from events.types import QUEUES, Kind, WorkItem
from events.work import WorkList
from executor.engine.duties import Duties
from executor.engine.held import Held
from executor.engine.leases import Leases
from executor.engine.node import GRACE
from executor.engine.pace import Pace
from executor.engine.room import Room
from executor.engine.tally import Tally
from executor.workflow.backoff import Backoff

BATCH = 128
"""How many work items one claim takes at most."""
BACKOFF = Backoff(first=1.0, factor=2.0, max=300.0)
"""The delays of work that failed through no outcome of a node."""

_log = structlog.get_logger(__name__)


class Engine:
    """One worker's engine. All of it runs in one event loop.

    Args:
        queues: the queues served here; what is due in the more urgent one is taken first.
        pace: how many runs are held at once.
        draining: set when the process is to end; runs stop before their next node.
        renewals: the work list as leases are renewed in it, default `work`; with a connection of its own no renewal
            waits until all that the process does has had its turn.
    """

    def __init__(
        self,
        *,
        queues: Sequence[str],
        work: WorkList,
        duties: Duties,
        doorbell: Doorbell,
        draining: asyncio.Event,
        pace: Pace,
        renewals: WorkList | None = None,
    ) -> None:
        self._queues = sorted(queues, key=QUEUES.index)
        self._work = work
        self._duties = duties
        self._doorbell = doorbell
        self._draining = draining
        self._pace = pace
        self._room = Room(pace.limit, work.lease / 3)
        self._takers: set[object] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.leases = Leases(renewals or work)
        self.tally = Tally()

    async def take(self) -> None:
        """Takes what is due, until nothing is or the engine drains. Waits while the engine is full.

        Raises:
            Unavailable: the log cannot be read or written now; the relay rings again when it can.
        """
        taker = object()
        self._takers.add(taker)
        try:
            while asked := await self._room.reserve(BATCH):
                await self._room.resize(self._pace.limit)  # what is reserved stays so
                items: list[WorkItem] = []
                since = time.monotonic()
                try:
                    for queue in self._queues:
                        await self._claim(queue, asked, items)
                finally:
                    await self._room.release(asked - len(items))
                    self._begin(items, since)
                if len(items) < asked:
                    return
        finally:
            self._takers.discard(taker)

    async def stop(self, grace: float) -> None:
        """Drains: no new work, and runs stop before their next node. After `grace` seconds the rest is given back."""
        self._draining.set()
        await self._room.close()
        deadline = asyncio.get_running_loop().time() + grace
        while (self._takers or self._tasks) and (left := deadline - asyncio.get_running_loop().time()) > 0:
            if self._tasks:
                await asyncio.wait(set(self._tasks), timeout=left)
            else:
                await asyncio.sleep(0.01)  # a claim is under way
        await asyncio.sleep(0)  # a task that never began would not see to its own end
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=GRACE + 1)
        try:
            await self.leases.give_back_orphans()
        except HeadraceError as error:
            _log.warning("engine.not_given_back", error=str(error))

    @property
    def in_flight(self) -> int:
        """Runs and routings held now."""
        return len(self._tasks)

    async def _claim(self, queue: str, asked: int, items: list[WorkItem]) -> None:
        """Claims into `items` what still has room; a suspect comes on top of that."""
        if (room := asked - len(items)) <= 0:
            return
        suspects = self._room.ask_for_suspect()
        claimed: list[WorkItem] = []
        try:
            claimed = await self._work.claim(queue, room, suspects)
        finally:
            self._room.admit(suspects, claimed)
        items += claimed
        faults.point("engine.claimed")

    def _begin(self, items: Sequence[WorkItem], since: float) -> None:
        """Sets every claimed item going, each in a task of its own: one that fails takes no other with it."""
        if items:
            self.tally.claimed()
        for item in items:
            self._spawn(item.id, item.token, self._do(item), since, item)

    def _spawn(
        self, id: UUID, token: int, work: Coroutine[Any, Any, None], since: float, item: WorkItem | None = None
    ) -> None:
        task = asyncio.create_task(self._guard(id, token, work, item))
        self._tasks.add(task)
        self.leases.hold(id, token, task, since)

    async def _guard(self, id: UUID, token: int, work: Coroutine[Any, Any, None], item: WorkItem | None) -> None:
        """Runs the work of one item and decides what a failure means for it."""
        try:
            await work
        except LeaseLost as error:
            _log.info("engine.lease_lost", item=str(id), error=str(error))
        except (Unavailable, asyncio.CancelledError) as error:
            # The log is away, or we drain, or the lease is lost (then giving back changes nothing).
            self.leases.orphan(id, token)
            _log.info("engine.let_go", item=str(id), reason=str(error) or "cancelled")
        except Exception as error:
            await self._failed(id, token, item.attempt if item is not None else 1, error)
        finally:
            self.leases.drop(id, token)
            self.tally.done()
            self._tasks.discard(asyncio.current_task())
            if self._room.clear(id) and item is not None:
                self._doorbell.ring(item.queue)  # the next suspect may come
            if item is not None and item.slot:  # another run of its workspace may come, in whichever queue it waits
                for queue in QUEUES:
                    self._doorbell.ring(queue)
            await self._room.release(1)

    async def _failed(self, id: UUID, token: int, attempt: int, error: Exception) -> None:
        delay = BACKOFF.delay(attempt, id.bytes)
        _log.error("engine.failed", item=str(id), attempt=attempt, retry_in=round(delay, 1), exc_info=error)
        text = f"{type(error).__name__}: {error}".replace("\0", "\ufffd")
        try:
            await self._work.fail([(id, token)], delay, text)
        except Unavailable:
            self.leases.orphan(id, token)

    async def _do(self, item: WorkItem) -> None:
        """Does what an item asks for."""
        if self._draining.is_set():  # claimed while the order to end came
            raise asyncio.CancelledError
        if self._duties.hopeless(item):
            await self._duties.park(item)
        elif item.kind is Kind.RUN:
            await self._carry(await self._duties.resume(item))
        elif item.kind is Kind.LANE:
            for queue in await self._duties.settle(item):
                self._doorbell.ring(queue)
        else:
            since = time.monotonic()
            routed = await self._duties.deliver(item, self.leases.orphan)
            for queue in routed.elsewhere:
                self._doorbell.ring(queue, routed.traceparent)
            for run in routed.runs:  # the first takes over this delivery's place
                self._room.overfill()
                self._spawn(run.id, run.token, self._carry(run), since)

    async def _carry(self, run: Held) -> None:
        run.sure = partial(self.leases.sure, run.id, run.token)
        await self._duties.carry(run)
