"""The doorbell: a Dramatiq message that says "look at the work list". Losing one loses nothing.

Messages are enqueued by the actor's name, so that ingest needs no actor code. Redis is spoken to from one thread of its
own: `enqueue` is synchronous and must not hold up a loop, and while it is talking further rings of the same queue
become one. A queue in which enough doorbells wait already is left alone, which bounds Redis however long workers are
away. A failing Redis costs a log line every ten seconds; the relay rings again when it is back.
"""

from __future__ import annotations

import threading
import time

import dramatiq
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker

ACTOR = "consume"
ENOUGH = 32
"""Doorbells waiting in a queue beyond which another says nothing new."""
BREATH = 0.005
"""Seconds between two rings: under load many commits share one, and the first after a silence waits for nobody."""
PAUSE = 0.5
"""Seconds without a try after Redis failed."""

_log = structlog.get_logger(__name__)


def broker_for(
    redis_url: str, middleware: list[dramatiq.Middleware], make: type[RedisBroker] = RedisBroker
) -> RedisBroker:
    """Dramatiq's broker with exactly this middleware. Short timeouts: a dead Redis must not hold anybody up."""
    client = redis.Redis.from_url(redis_url, socket_timeout=5.0, socket_connect_timeout=2.0)
    return make(client=client, middleware=middleware, heartbeat_timeout=15_000)


class Doorbell:
    """Rings from a thread of its own."""

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker
        self._wanted: set[str] = set()
        self._traceparents: dict[str, str] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._complained = 0.0
        self._thread = threading.Thread(target=self._ring_all, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, queue: str, traceparent: str | None = None) -> None:
        """Asks for a ring; returns at once and never fails. `traceparent` goes along in the message's options."""
        if traceparent is not None:
            self._traceparents[queue] = traceparent
        self._wanted.add(queue)
        self._wake.set()

    def close(self) -> None:
        """Rings what is asked for, then ends the thread."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout=10)

    def _ring_all(self) -> None:
        while not self._stopping.is_set() or self._wanted:
            self._wake.wait()
            self._wake.clear()
            while self._wanted:
                queue = self._wanted.pop()
                try:
                    ring_now(self._broker, queue, self._traceparents.pop(queue, None))
                except (redis.RedisError, OSError) as error:
                    self._complain(error)
                    self._stopping.wait(PAUSE)  # meanwhile rings become one
            self._stopping.wait(BREATH)

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self._complained > 10:
            self._complained = time.monotonic()
            _log.warning("doorbell.unavailable", error=str(error), effect="the relay rings when Redis is back")


def ring_now(broker: RedisBroker, queue: str, traceparent: str | None = None, enough: int = ENOUGH) -> None:
    """Enqueues one doorbell unless `enough` of them wait.

    Raises:
        redis.RedisError, OSError: Redis cannot be reached.
    """
    if broker.client.llen(f"{broker.namespace}:{queue}") >= enough:
        return
    options = {"traceparent": traceparent} if traceparent else {}
    broker.enqueue(dramatiq.Message(queue_name=queue, actor_name=ACTOR, args=(queue,), kwargs={}, options=options))


def wait(broker: RedisBroker, queue: str, seconds: float) -> bool:
    """Blocks until a doorbell waits in the queue, or so long. A BLMOVE moves the last to where it is: none is taken.

    Returns:
        False: this Redis cannot block.

    Raises:
        ConnectionError: Redis cannot be reached.
    """
    key = f"{broker.namespace}:{queue}"
    try:
        broker.client.execute_command("BLMOVE", key, key, "RIGHT", "RIGHT", seconds)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise ConnectionError(str(error)) from error
    except redis.ResponseError:
        return False
    return True
