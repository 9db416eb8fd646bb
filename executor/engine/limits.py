"""Calls with a cost class: reserved before they are made, settled to what they came to.

What a limit of ours puts off is no attempt and no failure of anybody: the node waits as long as it has to, and its
history says for what. A budget that is spent fails the node at once, with the kind `budget`, which is not retried.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from events import costs
from events.costs import Busy, Call, Granted, Later, Spent
from events.database import Database
from executor.workflow.definition import CostClass
from executor.workflow.outcomes import Completed, Deferred, Failed, Outcome

LOOK = 0.5
"""Seconds after which a call that found all places taken asks again, by chance up to three times as long."""
GRACE = 30.0
"""Seconds beyond a node's timeout for which its hold lasts."""


class Limits:
    """Calls within their limits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def through(self, call: Call, timeout: float, make: Callable[[], Awaitable[Outcome]]) -> Outcome:  # noqa: ASYNC109
        """Makes the call if it may be made now.

        Args:
            timeout: seconds that it takes at most.

        Raises:
            Unavailable: the log is away.
        """
        match await costs.reserve(self._database, call, timeout + GRACE):
            case Later(seconds, reason):
                return Deferred(reason, seconds, ours=True)
            case Busy(reason):
                return Deferred(reason, LOOK * random.uniform(1.0, 3.0), ours=True)
            case Spent(_, reason):
                return Failed("budget", reason)
            case Granted():
                pass
        outcome: Outcome | None = None
        try:
            outcome = await make()
        finally:
            await costs.settle(self._database, call.id, spent(outcome, call.cost))
        return outcome


def spent(outcome: Outcome | None, reserved: float) -> float:
    """What a call came to: what its output says, in `cost` or in tokens; nothing where it failed and was answered; as
    much as was reserved where nobody knows.
    """
    match outcome:
        case Completed({"cost": int() | float() as cost}) if not isinstance(cost, bool):
            return max(0.0, float(cost))
        case Completed({"usage": {"input_tokens": int() as given, "output_tokens": int() as made}}):
            return float(max(0, given + made))
        case Failed(kind) if kind not in {"timeout", "connection"}:
            return 0.0
        case Deferred():
            return 0.0
        case _:
            return reserved


def class_of(limit: CostClass | None, uses: str) -> CostClass | None:
    """The class of a node: its own, or that of its type."""
    return limit if limit is not None else _BY_TYPE.get(uses)


_BY_TYPE: dict[str, Any] = {"llm.chat": CostClass("llm"), "search.web": CostClass("search")}
