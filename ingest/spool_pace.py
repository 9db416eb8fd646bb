"""What makes a drain outrun its senders, however many there are: three rows in for four out.

Answering a sender from the spool costs this process about as much as moving a row from the spool to the log, and both
share one loop: without a rule, enough senders would fill the spool faster than it is emptied, with PostgreSQL there.
Who has to wait here waits in the spool's queue, which is bounded and whose end is a 503.
"""

from __future__ import annotations

import asyncio
import math

SHARE = 0.75
"""Rows let in for each that left."""
BURST = 1000.0
"""Rows let in at once, at most."""


class Pace:
    """Unlimited, but between `begin` and `end`."""

    def __init__(self) -> None:
        self._credit = math.inf
        self._more = asyncio.Event()

    def begin(self) -> None:
        """Rows are being moved."""
        self._credit = BURST

    def moved(self, rows: int) -> None:
        """So many have left."""
        self._credit = min(self._credit + SHARE * rows, BURST)
        self._more.set()

    def end(self) -> None:
        """Nothing is being moved any more."""
        self._credit = math.inf
        self._more.set()

    async def admit(self, rows: int) -> None:
        """Returns when a batch may come in; after one that was larger than what was left, the next waits longer."""
        while self._credit <= 0:
            self._more.clear()
            await self._more.wait()
        self._credit -= rows
