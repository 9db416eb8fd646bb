"""Secrets that end: each passes until its end, and not a moment longer.

Promises: a request that is signed by an old secret and by a new one passes while one of them has not ended, whatever
their order; one that only an ended secret matches is refused with the reason, so that staff sees what is wrong. At
every moment only the secrets that have not ended are tried.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from ingest.verify.base import Incoming, Refused, Verification, Verified, Verifier


def with_ends(
    compile: Callable[[list[bytes]], Verifier], secrets: Sequence[bytes], ends: Sequence[float | None]
) -> Verifier:
    """The verifier of a source some of whose secrets end.

    Args:
        compile: a verifier of these secrets; `Verified.secret` is an index into them.
        ends: of each secret, the Unix seconds from which on it no longer passes; None: never.

    Raises:
        ValueError: there is not one end for each secret.
    """
    known = {end for end in ends if end is not None}
    everything = compile(list(secrets))
    if len(ends) != len(secrets):
        raise ValueError(f"expected an end or None for each of {len(secrets)} secrets, got {len(ends)}")
    if not known:
        return everything
    changes = sorted(known)
    verifiers = [everything, *(_of_those_left(compile, secrets, ends, change) for change in changes)]

    def verify(incoming: Incoming, now: float) -> Verification:
        era = bisect_right(changes, now)
        verdict = verifiers[era](incoming, now)
        if era and isinstance(verdict, Refused):
            matched = everything(incoming, now)
            if isinstance(matched, Verified) and 0 <= matched.secret < len(ends):
                return _ended(ends[matched.secret], verdict)
        return verdict

    return verify


def _of_those_left(
    compile: Callable[[list[bytes]], Verifier], secrets: Sequence[bytes], ends: Sequence[float | None], at: float
) -> Verifier:
    """The verifier of what has not ended at `at`, which speaks of secrets by their index in the whole list."""
    left = [index for index, end in enumerate(ends) if end is None or end > at]
    verifier = compile([secrets[index] for index in left])

    def verify(incoming: Incoming, now: float) -> Verification:
        verdict = verifier(incoming, now)
        if isinstance(verdict, Verified) and 0 <= verdict.secret < len(left):
            return msgspec.structs.replace(verdict, secret=left[verdict.secret])
        return verdict

    return verify


def _ended(end: float | None, verdict: Refused) -> Refused:
    if end is None:
        return verdict
    return Refused(f"the secret that matches ended at {datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M:%S} UTC")
