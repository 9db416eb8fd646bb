"""A process of a fault run: started, killed, frozen, thawed, its clock moved. It never outlives the run.

The clock needs libfaketime (Debian: `faketime`); `FAKETIME` is the library, or None where there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from executor.cli.children import Child

_PLACES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
FAKETIME = next((found for place in _PLACES for found in Path(place).glob("**/faketime/libfaketimeMT.so.1")), None)


class Frozen(msgspec.Struct, frozen=True):
    """When a process was frozen, in Unix seconds; it lived on afterwards."""

    name: str
    since: float
    until: float


class Member:
    """One `headrace` process, under a name that outlives it. Whoever does it harm holds `lock`.

    Args:
        directory: for its log and its clock.
        command: what follows `headrace`.
        skew: seconds that its clock is ahead of the machine's from the start, where there is libfaketime.
    """

    def __init__(
        self, directory: Path, name: str, command: list[str], environment: Mapping[str, str], skew: int
    ) -> None:
        self.name = name
        self.lock = asyncio.Lock()
        self.fell = 0
        self.frozen: list[Frozen] = []
        self.skew = skew
        self.log = directory / f"{name}.log"
        self._command = [sys.executable, "-m", "tests.faultrun.entry" if FAKETIME else "executor.cli.main", *command]
        self._clock = directory / f"{name}.clock"
        self._lock_file = directory / f"{name}.lock"
        self._environment = dict(environment)
        if FAKETIME is not None:
            self._environment |= {
                "LD_PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self._child: Child | None = None

    def start(self) -> None:
        """Starts it; it may take its time to be ready."""
        self.move_clock(self.skew)
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._child = Child(
                self._command,
                log=self.log,
                lock=descriptor,
                death_signal=signal.SIGKILL,
                environ=self._environment,
            )
        finally:
            os.close(descriptor)

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.alive

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self._child is not None
        self._child.end(signal.SIGKILL, 10.0)

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after that long."""
        assert self._child is not None
        since = time.time()
        os.kill(self._child.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.frozen.append(Frozen(self.name, since, time.time()))
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGCONT)

    def move_clock(self, skew: int) -> None:
        """Has its clock be that many seconds ahead of the machine's, within a second."""
        self.skew = skew
        draft = self._clock.with_suffix(".new")
        draft.write_text(f"{skew:+d}\n")
        draft.replace(self._clock)

    def end(self) -> None:
        """SIGTERM, and SIGKILL to one that does not follow."""
        if self._child is not None and not self._child.end(signal.SIGTERM, 8.0):
            self.kill()
