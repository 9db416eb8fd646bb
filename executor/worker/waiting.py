"""How a worker waits for doorbells: it blocks in Redis instead of polling, and looks by itself when none comes.

Dramatiq's own Redis consumer sleeps between two looks at its queue: an idle worker is either late or busy. Here
it blocks on the queue's list itself (`events.doorbell.wait`), and whoever enqueues need not know. Messages
are still fetched by Dramatiq's script, one by one consumer; a consumer that was woken and finds nothing waits again.

The doorbell is a hint, and Redis may be away: a `Lookout` takes what is due whenever no doorbell has come for a while,
at the cost of one indexed query.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Protocol

import structlog
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed

from events.doorbell import wait
from events.errors import HeadraceError

BLOCK = 0.25
"""Seconds a consumer blocks at most before it looks whether it is to end, and says that it is alive."""
FULL = 0.01
"""Seconds between two looks while this worker holds as many doorbells as it may, or Redis knows no BLMOVE."""
QUIET = 1.0
"""Seconds without a doorbell after which a worker looks by itself; a quarter less or more, by chance."""

_log = structlog.get_logger(__name__)


class WaitingBroker(RedisBroker):
    """Dramatiq's broker, whose consumers block."""

    @property
    def consumer_class(self) -> type[Any]:
        """What `consume` makes."""
        return _WaitingConsumer


class _WaitingConsumer(_RedisConsumer):
    """Blocks for `timeout` milliseconds at most where Dramatiq's sleeps for as long at most."""

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout=0)  # type: ignore[no-untyped-call]  # dramatiq's
        self._block = timeout / 1000
        self._blocks = True

    def __next__(self) -> Any:
        """The next message, or None when there is none."""
        if not self.message_cache:
            if self._blocks and self.outstanding_message_count < self.prefetch:
                self._wait()
            else:
                time.sleep(FULL)
        return super().__next__()  # type: ignore[no-untyped-call]

    def _wait(self) -> None:
        try:
            self._blocks = wait(self.broker, self.queue_name, self._block)
        except ConnectionError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        if not self._blocks:
            _log.warning("doorbell.polled", queue=self.queue_name, needs="Redis 6.2 or newer, which knows BLMOVE")


class Takes(Protocol):
    """What takes due work: the engine."""

    async def take(self) -> None:
        """Takes what is due."""


class Lookout:
    """Looks when told to, and by itself when nobody does. All of it runs in the engine's event loop.

    Args:
        engine: what takes the work.
        quiet: seconds without a look after which it looks by itself, default `QUIET`.
    """

    def __init__(self, engine: Takes, quiet: float = QUIET) -> None:
        self._engine = engine
        self._quiet = quiet
        self._looked = time.monotonic()

    async def take(self) -> None:
        """Takes what is due.

        Raises:
            Unavailable: the log cannot be read or written now.
        """
        self._looked = time.monotonic()
        await self._engine.take()

    async def keep(self) -> None:
        """Looks whenever it has been quiet, until cancelled."""
        while True:
            pause = self._quiet * random.uniform(0.75, 1.25)  # workers must not look in step
            await asyncio.sleep(max(0.0, self._looked + pause - time.monotonic()))
            if time.monotonic() - self._looked < 0.75 * self._quiet:
                continue
            try:
                await self.take()
            except HeadraceError as error:
                _log.debug("lookout.failed", error=str(error))
