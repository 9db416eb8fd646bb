"""The relay: rings the doorbell for work that is due, fires schedules, makes the log's partitions ahead of time, and
deletes refused requests that are old.

At the work list it only looks. What is due is due whether it was never rung for, its doorbell was lost with Redis, its
worker died, or its timer ran out; so one question serves them all, several relays may run at once, and a relay that
dies is missed for as long as no other one asks. It sleeps until the next item or schedule falls due, and never longer
than `poll`.
"""

from __future__ import annotations

import asyncio

import redis
import structlog
from dramatiq.brokers.redis import RedisBroker

from events.claims import next_due
from events.database import Database
from events.doorbell import ring_now
from events.errors import HeadraceError
from events.rejections import delete_old
from events.sweep import sweep
from events.types import QUEUES
from executor.worker.scheduling import Scheduler

UPKEEP = 3600.0
"""Seconds between two looks at the partitions."""
UPKEEP_AGAIN = 60.0
"""Seconds until the next one when one failed."""
SWEEP = 60.0
"""Seconds between two looks at refused requests."""
SHORTEST = 0.02
"""Seconds between two looks at the work list, at least."""

_log = structlog.get_logger(__name__)


class Relay:
    """One relay.

    Args:
        poll: the longest time between two looks, in seconds.
        weeks: how many weeks of partitions to make ahead.
        rejected_retention: how long refused requests are kept, in seconds.
    """

    def __init__(
        self, database: Database, broker: RedisBroker, *, poll: float, weeks: int, rejected_retention: float
    ) -> None:
        self._database = database
        self._scheduler = Scheduler(database)
        self._broker = broker
        self._poll = poll
        self._weeks = weeks
        self._rejected_retention = rejected_retention

    async def run(self) -> None:
        """Looks until cancelled. A store that is away costs a warning and a pause."""
        upkeep_at = sweep_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            pause = self._poll
            try:
                ahead = await self.fire()  # before the look, which rings for what it made
                pause = min(await self.look(), max(SHORTEST, ahead))
                if loop.time() >= upkeep_at:
                    upkeep_at = loop.time() + UPKEEP_AGAIN
                    await self.upkeep()
                    upkeep_at = loop.time() + UPKEEP
                if loop.time() >= sweep_at:
                    sweep_at = loop.time() + SWEEP
                    await self.sweep()
            except (HeadraceError, redis.RedisError, OSError) as error:
                _log.warning("relay.unavailable", error=str(error))
                pause = max(self._poll, 0.5)
            await asyncio.sleep(pause)

    async def fire(self) -> float:
        """Fires schedules; answers when the next is due, in seconds. A fault in that keeps nobody from ringing."""
        try:
            return await self._scheduler.look()
        except HeadraceError as error:
            _log.warning("relay.schedules", error=str(error))
            return self._poll

    async def look(self) -> float:
        """Rings for every queue that has due work; answers how long to sleep, in seconds."""
        due = await next_due(self._database, QUEUES)
        for queue, seconds in due.items():
            if seconds <= 0:
                await asyncio.to_thread(ring_now, self._broker, queue, None, 1)
        ahead = [seconds for seconds in due.values() if seconds > 0]
        return max(SHORTEST, min([self._poll, *ahead]))

    async def upkeep(self) -> int:
        """Makes the partitions of the coming weeks and measures the clock; answers how many it made."""
        made = await self._database.fetchval(
            "SELECT make_event_partitions(now() - interval '7 days', now() + make_interval(weeks => $1))",
            self._weeks,
        )
        await self._database.measure_clock()
        if made:
            _log.info("relay.partitions_made", count=made)
        return int(made)

    async def sweep(self) -> int:
        """Deletes refused requests that are old enough; answers how many."""
        await sweep(self._database)
        deleted = await delete_old(self._database, self._rejected_retention)
        if deleted:
            _log.info("relay.rejected_deleted", count=deleted)
        return deleted
