"""What starts a workflow, read from its document: `on`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from executor.workflow.definition import Trigger
from executor.workflow.expressions import TRIGGER_ROOTS, Expression, ExpressionError
from executor.workflow.parsing_names import Names
from executor.workflow.reading import Reader
from executor.workflow.schedules import CATCH_UPS, SCHEDULED, CatchUp, Schedule, schedule_faults
from executor.workflow.wording import shown

_EVENT_KEYS = ("source", "type", "if")
_SCHEDULE_KEYS = ("schedule", "tz", "catch_up")
TRIGGER_KEYS = (*_EVENT_KEYS, *_SCHEDULE_KEYS)
_MAX_GLOB = 200
_MAX_STARS = 10


def read_triggers(document: Reader) -> tuple[Trigger, ...]:
    """The triggers, in their order."""
    triggers = tuple(_trigger(document, index, value) for index, value in enumerate(document.items("on")))
    scheduled = Counter((one.schedule.expression, one.schedule.tz) for one in triggers if one.schedule is not None)
    for (expression, tz), count in scheduled.items():
        if expression and count > 1:
            document.fault("on", f"expected each schedule once, got {expression!r} in {tz} again")
    return triggers


def _trigger(document: Reader, index: int, value: Any) -> Trigger:
    reader = Reader(f"on[{index}]", value, TRIGGER_KEYS, document.faults)
    if not isinstance(value, Mapping):
        return Trigger("")
    if SCHEDULED in reader.values:
        return _schedule(reader, str(document.values.get("workflow", "")))
    for key in _SCHEDULE_KEYS:
        if key in reader.values:
            reader.fault(key, "expected it beside schedule, got no schedule")
    if reader.values.get("source") == SCHEDULED:
        reader.fault("source", 'expected a source of events, got the clock; write schedule: "0 7 * * 1" instead')
    glob = reader.text("type", "*") or "*"
    if (fault := glob_fault(glob)) is not None:
        reader.fault("type", fault)
    condition = reader.text("if")
    if condition is not None:
        for fault in expression_faults(condition):
            reader.fault("if", fault)
    return Trigger(reader.name("source"), glob, condition)


def _schedule(reader: Reader, workflow: str) -> Trigger:
    for key in _EVENT_KEYS:
        if key in reader.values:
            reader.fault(key, f"expected {', '.join(_SCHEDULE_KEYS)} alone, got {key} too; it may be another trigger")
    written = reader.values[SCHEDULED]
    expression = " ".join(written.split()) if isinstance(written, str) else ""
    if not expression:
        reader.fault(SCHEDULED, f'expected cron such as "0 7 * * 1", got {shown(written)}')
    tz = reader.text("tz", "UTC") or "UTC"
    for key, fault in schedule_faults(expression, tz) if expression else ():
        reader.fault(key, fault)
    catch_up = cast(CatchUp, reader.choice("catch_up", CATCH_UPS, "last"))
    return Trigger(SCHEDULED, workflow, None, Schedule(expression, tz, catch_up))


def glob_fault(glob: str) -> str | None:
    """What is wrong with a glob over types; None where nothing is."""
    if len(glob) > _MAX_GLOB or glob.count("*") > _MAX_STARS:
        return f"expected a glob of at most {_MAX_GLOB} characters and {_MAX_STARS} *, got more"
    if glob.count("[") != len(re.findall(r"\[!?[^\[]+?\]", glob)):
        return f"expected a ] for every [, got {glob!r}"
    return None


def expression_faults(source: str) -> list[str]:
    """What is wrong with an expression over the delivery alone."""
    try:
        expression = Expression(source, TRIGGER_ROOTS)
    except ExpressionError as error:
        return [str(error)]
    return list(Names().faults(expression))
