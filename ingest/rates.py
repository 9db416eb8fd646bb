"""How often a source may be used: one token bucket per source, in this process alone.

`peek` comes before the body is read: who sends too much is answered 429 and costs nothing. `take` comes after the
verification, and only then is a token gone: forged requests cannot use up what the real sender is allowed. Between the
two others may have taken the last token, so `take` can say no as well. With n processes a source is allowed n times
its limit.

The clock is an argument: seconds, monotonic.
"""

from __future__ import annotations

import math
from collections.abc import Collection


class Bucket:
    """A bucket that holds at most `burst` tokens, is full at first, and gets `limit` tokens per `per` seconds.

    Args:
        limit: requests, more than 0.
        per: seconds, more than 0; default 1.
        burst: requests that may come at once, at least 1; default `limit`.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens", "terms")

    def __init__(self, limit: float, per: float = 1.0, burst: float | None = None) -> None:
        self.terms = (limit, per, burst)
        self._rate = limit / per
        self._burst = max(1.0, limit if burst is None else burst)
        self._tokens = self._burst
        self._at = -math.inf

    def peek(self, now: float) -> float:
        """0.0 when a request would be allowed now, else the seconds until one would be. Takes nothing."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        return 0.0 if self._tokens >= 1.0 else (1.0 - self._tokens) / self._rate

    def take(self, now: float) -> float:
        """Takes a token and returns 0.0, or takes nothing and returns the seconds until there is one."""
        wait = self.peek(now)
        if wait == 0.0:
            self._tokens -= 1.0
        return wait


class Buckets:
    """The buckets of all sources, by id. A source that is compiled anew keeps what it has used up."""

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}

    def get(self, source_id: int, limit: float, per: float = 1.0, burst: float | None = None) -> Bucket:
        """The bucket of a source: the one that it has, unless its terms are others now."""
        bucket = self._buckets.get(source_id)
        if bucket is None or bucket.terms != (limit, per, burst):
            bucket = self._buckets[source_id] = Bucket(limit, per, burst)
        return bucket

    def keep(self, source_ids: Collection[int]) -> None:
        """Forgets the buckets of all other sources."""
        self._buckets = {id: bucket for id, bucket in self._buckets.items() if id in source_ids}


def retry_after(seconds: float) -> bytes:
    """The value of `Retry-After`: whole seconds, at least 1."""
    return b"%d" % max(1, math.ceil(seconds))
