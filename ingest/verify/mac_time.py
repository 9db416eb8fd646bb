"""How old a signed request may be: timestamps in seconds, milliseconds or ISO 8601, in a header or in the body.

Promises: a time has one spelling with one length, so that its digits cannot be taken for those of its neighbour in the
signed text: no leading zeros, and in ISO 8601 always a zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from ingest.pointers import compile_pointers
from ingest.verify.base import Refused, check_age

if TYPE_CHECKING:  # a description compiles itself with what is here
    from ingest.verify.mac import Timestamp

_ISO = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")
_PER_SECOND = {"s": 1, "ms": 1000}

Check = Callable[[bytes, float], Refused | None]
"""(timestamp or body, Unix seconds now); None where it is fresh."""


def time_check(time: Timestamp | None) -> tuple[Check | None, Check | None]:
    """What checks a timestamp that came beside the body, and what checks the one within; at most one is there."""
    if time is None:
        return None, None
    check = _check(time)
    if not time.pointer:
        return check, None
    look, missing = compile_pointers([time.pointer]), Refused(f"the body has no time at {time.pointer}")

    def check_body(body: bytes, now: float) -> Refused | None:
        stamp = look(body)[0]
        return missing if stamp is None else check(stamp.encode("utf-8", "replace"), now)

    return None, check_body


def _check(time: Timestamp) -> Check:
    tolerance = time.tolerance
    if time.unit == "iso8601":
        return lambda stamp, now: _check_iso(stamp, tolerance, now)
    per_second, zero = _PER_SECOND[time.unit], Refused("the timestamp is not a whole number")
    return lambda stamp, now: zero if stamp.startswith(b"0") else check_age(stamp, per_second, tolerance, now)


def _check_iso(stamp: bytes, tolerance: float, now: float) -> Refused | None:
    if not _ISO.fullmatch(stamp):
        return Refused("the timestamp is not a time in ISO 8601 with a zone")
    try:
        seconds = datetime.fromisoformat(stamp.decode()).timestamp()
    except (ValueError, OverflowError):
        return Refused("the timestamp is not a time in ISO 8601 with a zone")
    if seconds < 0:
        return Refused("the timestamp is before 1970")
    return check_age(b"%d" % seconds, 1, tolerance, now)
