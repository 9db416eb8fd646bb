"""Exponential backoff with jitter, pure and repeatable.

    delay(attempt) = min(max, first · factor^(attempt − 1)) · (1 − jitter · u),   u in [0, 1) from the seed

All times are seconds as float. "Equal jitter" (jitter 0.5) keeps at least half of the delay, so that a retry never
comes at once, and still spreads a herd. The random part comes from a seed (run id, node) and the attempt: the same
inputs give the same delay, in a test and after a crash.
"""

from __future__ import annotations

import hashlib

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule of delays. Defaults: 1 s, doubling, at most 5 minutes, half of it jitter."""

    first: float = 1.0
    factor: float = 2.0
    max: float = 300.0
    jitter: float = 0.5

    def delay(self, attempt: int, seed: bytes = b"") -> float:
        """Seconds to wait after the `attempt`-th failure (1 is the first)."""
        base = self.first
        for _ in range(min(attempt, 64) - 1):  # no float overflow for absurd attempts
            base *= self.factor
            if base >= self.max:
                break
        digest = hashlib.blake2b(seed + attempt.to_bytes(8, "big"), digest_size=4).digest()
        return min(base, self.max) * (1.0 - self.jitter * int.from_bytes(digest, "big") / 2**32)
