"""What came of one attempt at a node, as values. One `match` folds them; no flags travel.

`Failed.kind` is what `retry.on` names: `timeout`, `connection`, `http_4xx`, `http_429`, `http_5xx`, `input` (the node's
inputs did not fit), `expression`, `process` (a killable process died), `deferred` (put off too often), `budget` (it is
spent), `error` (anything else the node raised).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

CacheUse = Literal["hit", "miss", "stale"]
"""Where a result came from: the cache; the node, for the cache; the cache, in place of a failed call."""


class Completed(msgspec.Struct, frozen=True):
    """The node returned `output` (JSON-like: dict, list, str, int, float, bool, None; a Struct is converted).

    `large`: the bytes of its JSON if they are more than a run's state is to hold, else 0. `cache`: of
    a node with a cache.
    """

    output: Any
    large: int = 0
    cache: CacheUse | None = None


class Failed(msgspec.Struct, frozen=True):
    """The attempt failed. `retry_after` (seconds) is the least wait that the other side asked for, if it did."""

    kind: str
    message: str
    retry_after: float | None = None


class Deferred(msgspec.Struct, frozen=True):
    """The other side took nothing on and said when to come back: not an attempt.

    Args:
        reason: who said so, for the history.
        seconds: the least wait that was asked for.
        ours: a limit of ours said so, and `seconds` is all there is to wait; however often.
    """

    reason: str
    seconds: float
    ours: bool = False


Outcome = Completed | Failed | Deferred


class NodeError(Exception):
    """Raised by a node to fail its attempt with a kind of its own choosing.

    Args:
        kind: one of the kinds above, or the node's own word.
        message: what was expected, what came; at most 2,000 characters are kept.
        retry_after: seconds that the other side asked us to wait.
    """

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        self.kind = kind
        self.retry_after = retry_after
        super().__init__(message)


class NodeDeferral(Exception):
    """Raised by an `async def` node of which nothing was done: it is called again, and the attempt does not count.

    Only a limited number in a row is let through; then it counts as a failure of the kind `deferred`.

    Args:
        reason: who said so; at most 2,000 characters are kept.
        seconds: the least wait that was asked for.
    """

    def __init__(self, reason: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(reason)
