"""When a schedule fires: cron expressions in a time zone, and what is made up for when nobody looked in time.

    turn(Schedule("0 7 * * 1", "Europe/Berlin"), due, now)

Pure: the clock is handed in, Unix seconds. The times are cronsim's, which follows Debian's cron: of a schedule whose
minute and hour are both fixed, a wall time that the clock jumps over fires at the moment of the jump, and one that it
shows twice fires at the first of the two. A schedule whose minute or hour begins with `*` goes by the time that passes:
hours that are not there are left out, and those that are there twice count twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec
from cronsim import CronSim, CronSimError

from executor.workflow.wording import did_you_mean

CatchUp = Literal["skip", "last", "all"]
CATCH_UPS: tuple[CatchUp, ...] = ("skip", "last", "all")
SCHEDULED = "schedule"
"""The source of the deliveries that schedules make; their type is the workflow's name."""
MOST_FIRINGS = 100
"""Times that `catch_up: all` makes up for at once, the latest ones."""
COUNTED = 10_000
"""Missed times that are counted; this number stands for itself and all above."""
GRACE = 60.0
"""Seconds after its time within which a firing is not late: `catch_up: skip` drops what is later."""
_MAX_EXPRESSION = 200
_ZONE = re.compile(r"(?!localtime$|posix/|right/)[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_FIELDS = 5


class Schedule(msgspec.Struct, frozen=True):
    """A cron expression of five fields, the time zone that it is meant in, and what becomes of missed times.

    `catch_up`: `skip` drops them, `last` makes up for the last one, `all` for each, `MOST_FIRINGS` at most.
    """

    expression: str
    tz: str = "UTC"
    catch_up: CatchUp = "last"


class Turn(msgspec.Struct, frozen=True):
    """What is to be done for a schedule that is due.

    Args:
        firings: the times to fire for, oldest first, as RFC 3339 with the zone's offset.
        missed: how many times before the first of these get none (see `COUNTED`).
        next_at: Unix seconds, after now; infinite when there is none.
    """

    firings: tuple[str, ...]
    missed: int
    next_at: float


def turn(schedule: Schedule, due: float, now: float) -> Turn:
    """What a schedule comes to at `now` that was next due at `due`, both Unix seconds.

    `due` counts as one of its times whatever the expression says: it was promised, and zones change.
    """
    times = _due(schedule, due, now)
    match schedule.catch_up:
        case "skip":
            fired = times[-1:] if now - times[-1] <= GRACE else []
        case "last":
            fired = times[-1:]
        case "all":
            fired = times[-MOST_FIRINGS:]
    zone = ZoneInfo(schedule.tz)
    texts = tuple(datetime.fromtimestamp(at, zone).isoformat(timespec="seconds") for at in fired)
    return Turn(texts, min(len(times) - len(fired), COUNTED), next_time(schedule, now))


def next_time(schedule: Schedule, after: float) -> float:
    """The first time after `after`, Unix seconds; infinite when there is none within 50 years.

    Raises:
        ValueError: the expression or the time zone is none (see `schedule_faults`).
    """
    return next(_times(schedule, after), math.inf)


def schedule_faults(expression: str, tz: str) -> Iterator[tuple[str, str]]:
    """What is wrong, as (key, text): `tz`, `schedule`, or both."""
    if not _is_zone(tz):
        hint = did_you_mean(tz, available_timezones()) or " (the names are those of the IANA database)"
        yield "tz", f"expected a time zone such as UTC or Europe/Berlin, got {tz[:100]!r}{hint}"
        tz = "UTC"
    if len(expression) > _MAX_EXPRESSION or len(expression.split()) != _FIELDS:
        yield "schedule", f'expected five cron fields such as "0 7 * * 1", got {expression[:100]!r}'
        return
    try:
        first = next_time(Schedule(expression, tz), 0.0)
    except ValueError as error:
        yield "schedule", f'expected cron such as "0 7 * * 1", got {expression!r}: {error}'
        return
    if first == math.inf:
        yield "schedule", f"expected a time that comes, got {expression!r}, which never does"


def _is_zone(tz: str) -> bool:
    try:
        return len(tz) <= 100 and _ZONE.fullmatch(tz) is not None and ZoneInfo(tz).key == tz
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _due(schedule: Schedule, due: float, now: float) -> list[float]:
    """The times from `due` to `now`, or enough of the latest of them: looked for in a stretch that doubles, so that a
    dense schedule which nobody looked at for years costs no more than some ten thousand steps.
    """
    stretch = 3600.0
    while (start := now - stretch) > due:
        found = list(takewhile(lambda at: at <= now, _times(schedule, start)))
        if len(found) > COUNTED + MOST_FIRINGS:
            return found
        stretch *= 2
    return [due, *takewhile(lambda at: at <= now, _times(schedule, due))]


def _times(schedule: Schedule, after: float) -> Iterator[float]:
    """The times after `after`, each once: where the clock jumps, several wall times become one moment."""
    try:
        moments = CronSim(schedule.expression, datetime.fromtimestamp(after, ZoneInfo(schedule.tz)))
    except (CronSimError, ZoneInfoNotFoundError) as error:
        raise ValueError(str(error)) from error
    for moment in moments:
        at = moment.timestamp()
        if at > after:
            yield at
            after = at
