"""What starts a workflow, read from its document: `on`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from executor.workflow.definition import Trigger
from executor.workflow.expressions import TRIGGER_ROOTS, Expression, ExpressionError
from executor.workflow.parsing_names import Names
from executor.workflow.reading import Reader

TRIGGER_KEYS = ("source", "type", "if")
_MAX_GLOB = 200
_MAX_STARS = 10


def read_triggers(document: Reader) -> tuple[Trigger, ...]:
    """The triggers, in their order."""
    return tuple(_trigger(document, index, value) for index, value in enumerate(document.items("on")))


def _trigger(document: Reader, index: int, value: Any) -> Trigger:
    reader = Reader(f"on[{index}]", value, TRIGGER_KEYS, document.faults)
    if not isinstance(value, Mapping):
        return Trigger("")
    glob = reader.text("type", "*") or "*"
    if (fault := glob_fault(glob)) is not None:
        reader.fault("type", fault)
    condition = reader.text("if")
    if condition is not None:
        for fault in expression_faults(condition):
            reader.fault("if", fault)
    return Trigger(reader.name("source"), glob, condition)


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
