"""How a workflow's runs share a lane, read from its document: `key`, `concurrency`, `debounce`, `throttle`,
`batch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from executor.workflow.definition import LaneSpec
from executor.workflow.lanes import MOST_LIMIT, Batch, Debounce, Lane, Then, Throttle
from executor.workflow.parsing_triggers import expression_faults
from executor.workflow.reading import Reader

LANE_KEYS = ("key", "concurrency", "debounce", "throttle", "batch")
THENS = ("wait", "skip", "replace", "parallel")
_MOST = 30 * 86_400.0


def read_lane(document: Reader) -> LaneSpec | None:
    """The lane that the document describes; None where its runs have nothing to do with each other."""
    if not any(key in document.values for key in LANE_KEYS):
        return None
    key, then = _key(document)
    debounce = _debounce(document)
    batch = _batch(document)
    if "debounce" in document.values and "batch" in document.values:
        document.fault("batch", "expected one of debounce and batch, got both; a batch keeps what debounce would drop")
    concurrency = document.whole("concurrency", 1, least=1, most=MOST_LIMIT)
    if "concurrency" in document.values:
        if key is None:
            then = "wait"
        elif then not in ("wait", "skip"):
            document.fault("concurrency", f"expected it with then: wait or skip, got then: {then}")
    return LaneSpec(key, Lane(then, concurrency, debounce, _throttle(document), batch))


def _key(document: Reader) -> tuple[str | None, Then]:
    value = document.values.get("key")
    if value is None:
        return None, "parallel"
    if not isinstance(value, Mapping):
        return _cel(document, "key"), "wait"
    reader = Reader("key", value, ("value", "then"), document.faults)
    if "value" not in value:
        reader.fault("value", "expected CEL such as event.body.id, got nothing")
    return _cel(reader, "value"), cast(Then, reader.choice("then", THENS, "wait"))


def _cel(reader: Reader, field: str) -> str | None:
    text = reader.text(field)
    for fault in expression_faults(text) if text is not None else ():
        reader.fault(field, fault)
    return text


def _debounce(document: Reader) -> Debounce | None:
    reader = _part(document, "debounce", ("for", "at_most"))
    if reader is None:
        return None
    quiet = _seconds(reader, "for")
    at_most = reader.duration("at_most", most=_MOST) if "at_most" in reader.values else _MOST
    if quiet and at_most and at_most < quiet:
        reader.fault("at_most", "expected no less than for, got less; it counts from the first delivery")
    return Debounce(quiet or 1.0, at_most or _MOST)


def _throttle(document: Reader) -> Throttle | None:
    reader = _part(document, "throttle", ("limit", "per"))
    if reader is None:
        return None
    return Throttle(_count(reader, "limit"), _seconds(reader, "per") or 1.0)


def _batch(document: Reader) -> Batch | None:
    reader = _part(document, "batch", ("size", "within"))
    if reader is None:
        return None
    return Batch(_count(reader, "size"), _seconds(reader, "within") or 1.0)


def _part(document: Reader, key: str, fields: tuple[str, ...]) -> Reader | None:
    if key not in document.values:
        return None
    value: Any = document.values[key]
    reader = Reader(key, value, fields, document.faults)
    return reader if isinstance(value, Mapping) else None


def _seconds(reader: Reader, field: str) -> float | None:
    if field not in reader.values:
        reader.fault(field, "expected a duration such as 30s, 5m or 24h, got nothing")
    return reader.duration(field, most=_MOST)


def _count(reader: Reader, field: str) -> int:
    if field not in reader.values:
        reader.fault(field, f"expected a whole number from 1 to {MOST_LIMIT}, got nothing")
        return 1
    return reader.whole(field, 1, least=1, most=MOST_LIMIT)
