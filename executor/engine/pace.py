"""How many runs a process holds at once, by how long the database takes: fewer when it slows, more when it is back.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), on the median time of a window of commits. A window is
slow if it takes several times what commits take when all is well, and at least `SLOW`: many runs in flight make larger
batches, which take longer and are no reason to hold back. What all is well means is learned: the least that a window
took, which rises slowly, so that a database that has become slower for good is not held back from for ever.
"""

from __future__ import annotations

import math
import statistics

WINDOW = 16
"""Commits in a window."""
SLOW = 0.1
"""Seconds that a commit takes at least in a window that is called slow."""
TIMES = 5.0
"""How many times as long as when all is well."""
BACK = 0.7
"""What is left of the limit after a slow window."""
FORTH = 16
"""After how many good windows it is back at most."""
FORGET = 1.01
"""By how much the memory of the best window fades with each."""


class Pace:
    """The limit in flight.

    Args:
        most: where it begins, and what it never exceeds.
        least: what it never falls below, or `most` if that is less.
    """

    def __init__(self, most: int, least: int) -> None:
        self.most, self.least = most, min(least, most)
        self.limit = most
        self._window: list[float] = []
        self._well = math.inf

    def observe(self, seconds: float) -> None:
        """One commit took so long."""
        self._window.append(seconds)
        if len(self._window) < WINDOW:
            return
        took = statistics.median(self._window)
        self._window.clear()
        slow = took >= SLOW and took > TIMES * self._well
        self._well = min(self._well * FORGET, took)
        if slow:
            self.limit = max(self.least, int(self.limit * BACK))
        else:
            self.limit = min(self.most, self.limit + max(1, self.most // FORTH))
