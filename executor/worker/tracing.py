"""Dramatiq's middleware for trace context: what `ring_now` put into a message's options, the actor finds.

Dramatiq calls middleware and actor in one and the same thread, so that a thread's own variable is enough.
"""

from __future__ import annotations

import threading
from typing import Any

import dramatiq


class _Message(threading.local):
    traceparent: str | None = None


_current = _Message()


def rung_in() -> str | None:
    """The `traceparent` of the message that this thread is processing; None where there is none."""
    return _current.traceparent


class Tracing(dramatiq.Middleware):
    """Makes a message's trace context known while it is processed."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        """Notes the message's context. Options are whatever was in Redis."""
        traceparent = message.options.get("traceparent")
        _current.traceparent = traceparent if isinstance(traceparent, str) else None

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Forgets it, so that the thread's next message does not inherit it."""
        _current.traceparent = None

    after_skip_message = after_process_message
