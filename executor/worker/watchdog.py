"""The watchdog of a worker's event loop: a thread that sees whether the loop still turns, and has it replaced if not.

An `async def` node that blocks (`time.sleep`, a synchronous client, a long computation) stops every run of its process.
What it promises:

- A block that ends is a warning, `loop.blocked`, once a minute per node type.
- One that lasts `loop_stall` is the end of the process. Its runs are given back at once, without an attempt counted, so
  that they go on elsewhere; the run that blocked is delayed and has its attempt counted, so that it is parked after
  `max_recoveries`, with what to do in the reason (`executor.worker.handover`). Then the process is replaced.
- Time in which this thread did not run either (a stopped process, a machine that sleeps or is short of CPU) is not the
  loop's silence.

Who blocks costs nothing to know: the loop says which task it is in, and that task's context which node it belongs to,
also for tasks that a node started.

The process replaces itself by exec and keeps its pid, so that no supervisor is needed and none takes it for a crash.
Every descriptor of ours is close-on-exec, and what was handed down on purpose (logs, a supervisor's lock) stays. It is
the main thread that does it, because a death signal (PR_SET_PDEATHSIG) is a thread's and would be lost with any other.
The processes of synchronous nodes are killed and reaped first: the new process would not know them for its children.

Code that holds the interpreter's lock (a regular expression that backtracks) stops this thread too. Then the kernel
ends the process: a timer that counts the CPU time of the process (SIGPROF) is put off at every look, and when it runs
out, every thread's stack goes to standard error. Leases bring the work back, and whoever supervises a new process.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import faulthandler
import gc
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import assert_never
from uuid import UUID

import msgspec
import structlog

from executor.engine.leases import Leases
from executor.engine.node import EXECUTING

EVERY = 0.25
"""Seconds between two looks."""
BLOCKED = 1.0
"""Seconds of silence that are worth a warning."""
AGAIN = 60.0
"""Seconds between two warnings about one node type."""
PATIENCE = 10.0
"""Seconds that giving work back may take, and then the end of the process, before it is ended the hard way."""
STALLED = os.EX_TEMPFAIL
"""The exit code of a process that could not replace itself."""

_log = structlog.get_logger(__name__)


class Turns(msgspec.Struct, frozen=True):
    """The loop answers. `after`: the seconds of silence that ended with this look."""

    after: float = 0.0


class Silent(msgspec.Struct, frozen=True):
    """The loop has not answered for `seconds`."""

    seconds: float


class Stalled(msgspec.Struct, frozen=True):
    """The loop has not answered for `seconds`, and is given up."""

    seconds: float


class Pulse:
    """Judges the loop's silence. Reads no clock.

    Args:
        stall: seconds of silence after which the loop is given up.
    """

    def __init__(self, stall: float) -> None:
        self._stall = stall
        self._silence = 0.0

    def look(self, elapsed: float, *, answered: bool) -> Turns | Silent | Stalled:
        """What one look comes to.

        Args:
            elapsed: seconds since the look before. More than two intervals are somebody else's fault.
            answered: whether the loop has answered what that look asked.
        """
        if answered:
            silence, self._silence = self._silence, 0.0
            return Turns(silence)
        self._silence += min(elapsed, 2 * EVERY)
        return Silent(self._silence) if self._silence < self._stall else Stalled(self._silence)


class Culprit(msgspec.Struct, frozen=True):
    """What the loop is in. `item`: the work item; `uses`, `node`: None where it is the engine's own code."""

    item: UUID
    uses: str | None = None
    node: str | None = None


def culprit(loop: asyncio.AbstractEventLoop, leases: Leases) -> Culprit | None:
    """What the loop is executing now, asked from another thread; None when that belongs to no work item."""
    task = asyncio.current_task(loop)
    if task is None:
        return None
    for context in gc.get_referents(task):  # `Task.get_context` is new in 3.12
        if isinstance(context, contextvars.Context) and (executing := context.get(EXECUTING)) is not None:
            uses, attempt = executing
            return Culprit(attempt.run_id, uses, attempt.node)
    return next((Culprit(held.id) for held in leases.holdings() if held.task is task), None)


class Watchdog:
    """Watches one event loop from a thread of its own.

    Args:
        thread: the thread that runs the loop.
        stall: seconds of silence after which the loop is given up; infinite: never.
        hand_over: gives the work back; may take `PATIENCE` seconds.
        replace: has the process replaced; called in another thread than the main one.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: threading.Thread,
        leases: Leases,
        *,
        stall: float,
        hand_over: Callable[[Culprit | None, float], None],
        replace: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._watched = thread
        self._leases = leases
        self._stall = stall
        self._hand_over = hand_over
        self._replace = replace
        self._clock = clock
        self._last = clock()
        self._pulse = Pulse(stall)
        self._answered = True
        self._stopping = threading.Event()
        self._seen: Counter[Culprit | None] = Counter()
        self._warned: dict[str | None, float] = {}
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Watches from now on."""
        if self._stall < math.inf:
            faulthandler.register(signal.SIGPROF, chain=True)
            self._put_off(self._stall)
        self._thread.start()

    def stop(self) -> None:
        """Watches no more."""
        self._stopping.set()
        self._thread.join(timeout=PATIENCE)

    def _watch(self) -> None:
        try:
            while not self._stopping.wait(EVERY):
                self._put_off(self._stall)
                if self.look():
                    return
        finally:
            self._put_off(0.0)

    def look(self) -> bool:
        """One look, and what it leads to; whether it was the last."""
        now = self._clock()
        elapsed, self._last = now - self._last, now
        match self._pulse.look(elapsed, answered=self._answered):
            case Turns(after):
                if after >= BLOCKED:
                    self._warn(after)
                self._seen.clear()
                self._answered = False
                try:
                    self._loop.call_soon_threadsafe(self._answer)
                except RuntimeError:  # it is closed
                    return True
            case Silent():
                self._seen[culprit(self._loop, self._leases)] += 1
            case Stalled(seconds):
                self._give_up(seconds)
                return True
            case impossible:
                assert_never(impossible)
        return False

    def _answer(self) -> None:
        self._answered = True

    def _warn(self, seconds: float) -> None:
        blamed = self._blamed()
        uses = blamed.uses if blamed is not None else None
        if self._clock() - self._warned.get(uses, -math.inf) >= AGAIN:
            self._warned[uses] = self._clock()
            _log.warning("loop.blocked", seconds=round(seconds, 2), **_about(blamed))

    def _give_up(self, seconds: float) -> None:
        self._put_off(self._stall + 2 * PATIENCE)
        blamed = self._blamed()
        _log.error("loop.stalled", seconds=round(seconds, 2), **_about(blamed), stack=self._stack())
        handing = threading.Thread(target=self._hand_over, args=(blamed, seconds), name="hand-over", daemon=True)
        handing.start()
        handing.join(PATIENCE)
        self._replace()
        if not self._stopping.wait(PATIENCE):
            os._exit(STALLED)

    def _blamed(self) -> Culprit | None:
        """Who was seen most often in this silence."""
        return self._seen.most_common(1)[0][0] if self._seen else None

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._watched.ident or 0)
        return "".join(traceback.format_stack(frame)[-12:]) if frame is not None else ""

    def _put_off(self, seconds: float) -> None:
        """The kernel's timer runs out after `seconds` of CPU time from now; 0: never."""
        if self._stall < math.inf:
            with contextlib.suppress(OSError):
                signal.setitimer(signal.ITIMER_PROF, seconds)


def _about(blamed: Culprit | None) -> dict[str, str | None]:
    if blamed is None:
        return {"uses": None}
    return {"uses": blamed.uses, "node": blamed.node, "item": str(blamed.item)}
