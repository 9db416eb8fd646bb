"""What is wrong with a description of HMAC signatures: all of it at once, in words for whoever wrote it.

Promises: a description without faults leaves nothing that a workflow reads unsigned, and has a border between any two
signed parts that a sender could otherwise move: text that neither an id nor
a query may hold, or a part that shows by itself where it begins (`mac_parts` refuses a request that blurs it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.pointers import pointer_tokens
from ingest.verify.mac_parts import PLACEHOLDER

if TYPE_CHECKING:  # a description finds its faults with what is here
    from ingest.verify.mac import Hmac, Timestamp

MOST_TOLERANCE = 7 * 86400.0
"""Seconds. Longer than any sender retries; a recorded request that is older never passes."""

PLACEHOLDERS = ("body", "timestamp", "id", "method", "url", "path", "query")


def hmac_faults(scheme: Hmac, url: str) -> list[str]:
    """What is wrong, as "field: expected …, got …"; empty if nothing is. `url`: the source's public one, or empty."""
    pieces = PLACEHOLDER.split(scheme.signed)  # literal, name, literal, name, …, literal
    used = pieces[1::2]
    faults = [
        f"signed: expected only {{{'}, {'.join(PLACEHOLDERS)}}}, got {{{name}}}"
        for name in used
        if name not in PLACEHOLDERS
    ]
    if "body" not in used:
        faults.append("signed: expected {body} in it, or the body could be altered at will, got none")
    if scheme.timestamp is not None:
        paired = scheme.pairs is not None and bool(scheme.pairs.timestamp)
        faults += _time_faults(scheme.timestamp, "timestamp" in used, paired)
    elif "timestamp" in used:
        faults.append("timestamp: expected a header, because signed has {timestamp}, got nothing")
    if "id" in used and not scheme.id_header:
        faults.append("signed: expected no {id}, because the source's id is not one header, got {id}")
    faults += [
        f"signed: expected text between {{{name}}} and the parts beside it, got none"
        for name in dict.fromkeys(used)
        if _borderless(name, pieces)
    ]
    if "url" in used and not url:
        faults.append("signed: expected no {url}, because the source has no public url, got {url}")
    if scheme.header.count("{") > 1 or ("{" in scheme.header and "{n}" not in scheme.header):
        faults.append(f"header: expected a name, in which {{n}} may stand once for a number, got {scheme.header}")
    return faults


def _borderless(name: str, pieces: list[str]) -> bool:
    """Whether a part that a sender is free to choose touches another that does not show where it begins or ends."""
    if name not in {"id", "query", "url"}:
        return False
    places = [index for index in range(1, len(pieces), 2) if pieces[index] == name]
    # A body that begins with a brace, and a time with its fixed form, may follow a query at once: see `mac_parts`.
    may_follow = () if name == "id" else ("body", "timestamp")
    last = len(pieces) - 2
    return any(
        (index < last and not pieces[index + 1] and pieces[index + 2] not in may_follow)
        or (index > 1 and not pieces[index - 1] and name != "url")
        for index in places
    )


def _time_faults(time: Timestamp, signed: bool, paired: bool) -> list[str]:
    faults: list[str] = []
    places = sum(map(bool, (time.header, time.pointer, paired)))
    if places != 1:
        faults.append(f"timestamp: expected one of header, pointer and pairs.timestamp, got {places} of them")
    if time.pointer:
        try:
            pointer_tokens(time.pointer)
        except ValueError as error:
            faults.append(f"timestamp.pointer: {error}")
        if signed:
            faults.append("signed: expected no {timestamp}, because the time stands in the body, got {timestamp}")
    elif not signed:
        faults.append("signed: expected {timestamp} in it, or the time could be altered at will, got none")
    if not 0 < time.tolerance <= MOST_TOLERANCE:
        faults.append(f"timestamp.tolerance: expected more than 0 s and at most a week, got {time.tolerance:g} s")
    return faults
