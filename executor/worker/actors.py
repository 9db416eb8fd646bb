"""The one actor: a doorbell says "look", and the engine takes what is due in its queues.

The actor runs in a Dramatiq thread and waits for the engine's loop, which is a thread of its own: while the engine is
full, so is Dramatiq, and doorbells go to other workers. That it may be acknowledged early, twice or never is of no
account: what is due is in PostgreSQL.

Its span is in the trace of the doorbell and not in a sender's, because it takes whatever is due.
"""

from __future__ import annotations

import asyncio
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from events.doorbell import ACTOR
from events.telemetry import Telemetry
from executor.worker.tracing import rung_in
from executor.worker.waiting import Takes


def declare(
    broker: RedisBroker, queue: str, engine: Takes, loop: asyncio.AbstractEventLoop, telemetry: Telemetry
) -> None:
    """Declares the actor on a broker, bound to this engine.

    Args:
        queue: the queue that the actor is declared in; the message's own queue says what to look at.
        loop: the engine's event loop, running in another thread.
    """

    def consume(queue: str, **_: Any) -> None:
        attributes = _about(queue) if telemetry.enabled else {}
        with telemetry.span("claim", kind="consumer", parent=rung_in(), attributes=attributes):
            asyncio.run_coroutine_threadsafe(engine.take(), loop).result()

    dramatiq.Actor(consume, broker=broker, actor_name=ACTOR, queue_name=queue, priority=0, options={})


def _about(queue: str) -> dict[str, str]:
    return {"messaging.system": "dramatiq", "messaging.destination.name": queue}
