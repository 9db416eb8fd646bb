"""Fires the schedules that are due: what `workflow.schedules` says is to be done, written by `events.schedules`.

Any number of processes may look at once. A schedule that cannot be fired here (its time zone is not known, say) is told
of once, is tried again at every look, and keeps no other from firing.
"""

from __future__ import annotations

import math
from typing import cast
from uuid import UUID

import structlog

from events.database import Database
from events.errors import BadRow
from events.schedules import ScheduleRow, fire, upcoming
from executor.workflow.schedules import CatchUp, Schedule, turn

MOST = 100
"""Schedules that are fired in one look."""

_log = structlog.get_logger(__name__)


class Scheduler:
    """Looks at the schedules of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._failing: set[tuple[int, str, str, str]] = set()

    async def look(self) -> float:
        """Fires what is due; in how many seconds to look again: 0 where more is due, infinite where nothing is left."""
        found = await upcoming(self._database, MOST + 1 + len(self._failing))
        read = 0
        for row in found.rows:
            if row.next_at > found.now:
                return row.next_at - found.now
            if read == MOST:
                return 0.0
            read += await self._fire(row, found.now)
        return math.inf

    async def _fire(self, row: ScheduleRow, now: float) -> bool:
        """Fires one, if it can be."""
        try:
            await fire_at(self._database, row, now)
        except (ValueError, BadRow) as error:
            key = (row.workspace_id, row.workflow, row.expression, row.tz)
            if key not in self._failing:
                _log.error("schedule.failing", workflow=row.workflow, schedule=row.expression, error=str(error))
            self._failing.add(key)
            return False
        return True


async def fire_at(database: Database, row: ScheduleRow, now: float) -> list[UUID]:
    """Fires a schedule that is due at `now` (Unix seconds); the ids of the deliveries that this made.

    Raises:
        ValueError: its expression or its time zone cannot be read here.
    """
    schedule = Schedule(row.expression, row.tz, cast(CatchUp, row.catch_up))
    do = turn(schedule, row.next_at, now)
    return await fire(database, row, do.next_at, do.firings, do.missed)
