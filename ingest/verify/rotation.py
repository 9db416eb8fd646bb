"""Secrets that end: after its time a secret matches nothing, though it is still stored.

Promises: the end is looked at for every request, so no process has to be told when it has come.
"""

from __future__ import annotations

from collections.abc import Sequence

from ingest.verify.base import Incoming, Refused, Verification, Verified, Verifier


def until_their_end(verify: Verifier, ends: Sequence[float | None]) -> Verifier:
    """The verifier, but no secret passes after its end.

    Args:
        ends: for each of the source's secrets Unix seconds, or None for one without an end.
    """
    if all(end is None for end in ends):
        return verify
    ended = Refused("the signature is by a secret whose time has ended")

    def check(incoming: Incoming, now: float) -> Verification:
        verdict = verify(incoming, now)
        if isinstance(verdict, Verified) and 0 <= verdict.secret < len(ends):
            end = ends[verdict.secret]
            if end is not None and now >= end:
                return ended
        return verdict

    return check
