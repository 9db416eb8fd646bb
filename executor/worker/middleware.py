"""Dramatiq's middleware here: exactly these, and none of its defaults. `Retries` above all is not among them.

Dramatiq's Redis broker keeps a delayed message in a worker's memory and can lose or double it when Redis goes away, so
that no delay may live there. Backoff is ours, and it is in two places with one formula (`executor.workflow.backoff`):

- Work that fails: its delay is written to its work item in PostgreSQL (`events.work.fail`), by the engine that held it.
- A doorbell that fails (the log is away, so there is nothing to write to): `DoorbellBackoff` holds this worker's thread
  for a while, longer with every failure in a row, and lets the message go. It is not sent again: the relay rings for
  whatever is due as soon as it can see that itself.
"""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
import structlog

from executor.workflow.backoff import Backoff

PAUSE = Backoff(first=0.1, factor=2.0, max=5.0)
"""0.1 s, 0.2 s, 0.4 s … 5 s between doorbells that fail, half of each jitter."""

_log = structlog.get_logger(__name__)


class DoorbellBackoff(dramatiq.Middleware):
    """Exponential backoff in place of Dramatiq's `Retries`.

    Args:
        pause: the schedule of pauses, in seconds as float.
    """

    def __init__(self, pause: Backoff = PAUSE) -> None:
        self._pause = pause
        self._failures = 0
        self._stopping = threading.Event()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Nobody waits for a pause when the worker ends."""
        self._stopping.set()

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Counts failures in a row, and pauses after each."""
        if exception is None:
            self._failures = 0
            return
        self._failures += 1
        delay = self._pause.delay(self._failures, message.message_id.encode())
        _log.warning(
            "doorbell.failed",
            queue=message.queue_name,
            error=str(exception),
            failures=self._failures,
            pause=round(delay, 3),
        )
        self._stopping.wait(delay)
