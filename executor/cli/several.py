"""Several processes of one command: started again when one dies, told to end together, gone when we are.

Each is a worker like any other, with an owner, leases and a drain of its own; nothing is shared between them. On Linux
the kernel tells them to end (SIGTERM: they drain) if we are killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

import structlog

from executor.cli import children

STEADY = 10.0
"""Seconds that a process has to live for its next death to count as its first."""
MOST = 10.0
"""Seconds between a death and the next start, at most."""

_log = structlog.get_logger(__name__)


class _One:
    """A place for a process."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._deaths = 0
        self._started = 0.0
        self.start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def look(self, now: float) -> None:
        """Starts it if it is time to, notices its death."""
        if self.process is None and now >= self.start_at:
            self._started = now
            starter = [sys.executable, "-I", "-S", children.__file__, str(os.getpid()), str(int(signal.SIGTERM)), "-1"]
            self.process = subprocess.Popen([*starter, *self._command])  # noqa: S603
        elif self.process is not None and (status := self.process.poll()) is not None:
            self._deaths = 1 if now - self._started > STEADY else self._deaths + 1
            pause = min(0.1 * 2**self._deaths, MOST)
            self.start_at, self.process = now + pause, None
            _log.warning("worker.died", status=status, again_in=round(pause, 1))

    def tell(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


def several(command: Sequence[str], count: int) -> None:
    """Runs `count` processes of a command until SIGTERM or SIGINT; returns when all have ended."""
    places = [_One(command) for _ in range(count)]
    told: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        for place in places:
            place.tell(signal.SIGTERM)  # a second one ends them at once, as it would end one alone

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    while not told:
        for place in places:
            if not told:
                place.look(time.monotonic())
        time.sleep(0.1)
    for place in places:
        place.tell(signal.SIGTERM)  # one that began while we were told
        if place.process is not None:
            place.process.wait()
