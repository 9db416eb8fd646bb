"""How a hub hears from workers: it says what it watches, and is told what is out of date (`executor.engine.live`).

After a message may have been missed (Redis was away, a worker came, a run is watched since just now), and every `LOOK`
seconds anyway, all that may be concerned counts as out of date; while Redis is away, all does every `LOOK_WITHOUT`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable
from typing import assert_never
from uuid import UUID

import redis.asyncio as redis
import structlog

from executor.engine.live import (
    REPEAT,
    Channels,
    Lost,
    Ready,
    Said,
    Subscribed,
    Wake,
    Watch,
    connect,
    decode,
    encode,
    listen,
)

LOOK = 5.0
LOOK_WITHOUT = 1.0
MOST_UNANSWERED = 256
"""Messages to workers of which it is remembered what they were about."""

_log = structlog.get_logger(__name__)


class Wakeups:
    """Hears for one hub.

    Args:
        watched: the runs that are watched now, and whether any workspace is.
        stale: told which runs may have new events, with the version where it is known; None: any run or workspace may.
        stirred: told that workspaces may have new events.
    """

    def __init__(
        self,
        redis_url: str,
        watched: Callable[[], tuple[Iterable[UUID], bool]],
        stale: Callable[[Iterable[tuple[UUID, int | None]] | None], None],
        stirred: Callable[[], None],
    ) -> None:
        self._url = redis_url
        self._watched, self._stale, self._stirred = watched, stale, stirred
        self._name = secrets.token_hex(8)
        self._channels = Channels(redis_url)
        self._redis = connect(redis_url)
        self._new: set[UUID] = set()
        self._whole = False
        self._bell = asyncio.Event()
        self._about: dict[int, tuple[UUID, ...] | None] = {}
        self._seq = 0
        self.up = False
        """Whether Redis can be heard."""

    def watch(self, run_id: UUID | None) -> None:
        """A run is watched from now on; None: a workspace is."""
        if run_id is None:
            self._whole = True
        else:
            self._new.add(run_id)
        self._bell.set()

    async def keep(self) -> None:
        """Hears until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear())
            tasks.create_task(self._say())
            tasks.create_task(self._look())

    async def close(self) -> None:
        """Tells workers that nobody listens any more, and closes the connections."""
        await self._publish(Watch(self._name, 0, [], all=False, whole=True))
        await self._redis.aclose()

    async def _hear(self) -> None:
        mine = self._channels.hub(self._name)
        async with contextlib.aclosing(listen(self._url, self._channels.hubs, mine)) as heard:
            async for one in heard:
                match one:
                    case Subscribed():
                        self.up = True
                        self._again()
                        self._stale(None)
                    case Lost():
                        self.up = False
                    case Said(channel, data) if channel == mine:
                        self._heard(data)
                    case Said():
                        self._again()
                    case impossible:
                        assert_never(impossible)

    def _heard(self, data: bytes) -> None:
        match decode(data):
            case Wake(runs):
                self._stale([(UUID(bytes=id), version) for id, version in runs if len(id) == 16])
                self._stirred()
            case Ready(seq):
                about = self._about.get(seq)
                self._stale(None if about is None else ((id, None) for id in about))
            case None:
                pass

    def _again(self) -> None:
        self._whole = True
        self._bell.set()

    async def _say(self) -> None:
        while True:
            try:
                async with asyncio.timeout(REPEAT):
                    await self._bell.wait()
            except TimeoutError:
                self._whole = True
            self._bell.clear()
            if not self.up:
                continue  # all is said when it is heard again
            whole, new = self._whole, tuple(self._new)
            self._whole, self._new = False, set()
            runs, any_workspace = self._watched()
            self._seq += 1
            self._about[self._seq] = None if whole else new
            if len(self._about) > MOST_UNANSWERED:
                del self._about[next(iter(self._about))]
            ids = [id.bytes for id in (runs if whole else new)]
            await self._publish(Watch(self._name, self._seq, ids, any_workspace, whole))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK if self.up else LOOK_WITHOUT)
            self._stale(None)

    async def _publish(self, watch: Watch) -> None:
        try:
            await self._redis.publish(self._channels.workers, encode(watch))
        except (redis.RedisError, OSError) as error:
            _log.debug("live.not_said", error=str(error))
