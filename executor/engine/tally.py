"""What an engine counts as it goes, for whoever asks how a worker is."""

from __future__ import annotations

import time

import msgspec


class Tally(msgspec.Struct):
    """`finished`: work items that were let go, whatever came of them. Times are Unix seconds by this host's clock."""

    finished: int = 0
    last_claim: float | None = None
    last_finish: float | None = None

    def claimed(self) -> None:
        """Something was taken."""
        self.last_claim = time.time()

    def done(self) -> None:
        """Something was let go."""
        self.finished += 1
        self.last_finish = time.time()
