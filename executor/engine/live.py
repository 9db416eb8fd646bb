"""What a worker says of its runs to those who watch: which have new events. It is a wake-up and carries no facts.

A process that watches (a hub) says in Redis what it wants to hear of; a worker keeps that in memory, so that a commit
in which nobody is interested costs one look at an empty dict and no message. Otherwise all commits since the last
message are in the next: one message per hub, with the newest version of each run that it watches. What is promised:

- Nothing here delays a commit or lets it fail. What waits is bounded by what is watched; without Redis it is dropped.
- Nothing hangs on a message: a hub reads the log, and looks by itself now and then.

Channels, under `headrace:<database>:live:`: `workers` (hubs say `Watch`), `hubs` (a worker that came says `Hello`),
`hub:<name>` (workers say `Wake` and `Ready`). All is msgpack.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

PATIENCE = 2.0
"""Seconds that Redis may take for an answer."""
AGAIN = 1.0
"""Seconds between two attempts to reach Redis."""
SILENCE = 10.0
"""Seconds without a message after which the connection is asked whether it lives."""
KEEP = 30.0
"""Seconds after which a hub that says nothing any more is forgotten."""
REPEAT = 10.0
"""Seconds after which a hub says again what it watches."""
MOST_HUBS = 64

_log = structlog.get_logger(__name__)


class Watch(msgspec.Struct, frozen=True, array_like=True):
    """A hub watches these runs (16 bytes each), besides what it said before, or, if `whole`, these alone.

    `all`: it wants to hear that there is something new at all. `seq`: what the answer `Ready` names.
    """

    hub: str
    seq: int
    runs: list[bytes]
    all: bool
    whole: bool


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """A worker has heard the hub's message `seq`: what it commits from now on is told."""

    seq: int


class Wake(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """There are new events of these runs; the newest version of each."""

    runs: list[tuple[bytes, int]]


_PACK = msgspec.msgpack.Encoder().encode
_WATCH = msgspec.msgpack.Decoder(Watch)
_SAID: msgspec.msgpack.Decoder[Ready | Wake] = msgspec.msgpack.Decoder(Ready | Wake)


class Channels:
    """The names of the channels; Redis knows no databases for them."""

    def __init__(self, redis_url: str) -> None:
        self._prefix = f"headrace:{urlsplit(redis_url).path.strip('/') or '0'}:live:"
        self.workers = f"{self._prefix}workers"
        self.hubs = f"{self._prefix}hubs"

    def hub(self, name: str) -> str:
        return f"{self._prefix}hub:{name}"


class Subscribed(msgspec.Struct, frozen=True):
    """The subscription stands, for the first time or anew: what was said before may have been missed."""


class Lost(msgspec.Struct, frozen=True):
    """Redis is away."""


class Said(msgspec.Struct, frozen=True):
    """A message."""

    channel: str
    data: bytes


def connect(redis_url: str) -> redis.Redis:
    """A client that tries once."""
    return redis.Redis.from_url(
        redis_url, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
    )


async def listen(redis_url: str, *channels: str) -> AsyncGenerator[Subscribed | Lost | Said, None]:
    """What is said on these channels, for ever; over one connection, made anew as often as it breaks."""
    while True:
        try:
            async with connect(redis_url) as client, client.pubsub() as subscription:
                await subscription.subscribe(*channels)
                asked = False
                while True:
                    message: dict[str, Any] | None = await subscription.get_message(timeout=SILENCE)
                    if message is None:
                        if asked:
                            raise TimeoutError("Redis answers nothing")
                        await subscription.ping()
                        asked = True
                        continue
                    asked = False
                    if message["type"] == "message":
                        yield Said(message["channel"].decode(), message["data"])
                    elif message["type"] == "subscribe" and message["channel"].decode() == channels[-1]:
                        yield Subscribed()
        except (redis.RedisError, OSError) as error:  # TimeoutError is an OSError
            _log.debug("live.redis_away", error=str(error))
        yield Lost()
        await asyncio.sleep(AGAIN)


def decode(data: bytes) -> Ready | Wake | None:
    """What a worker said; None when it cannot be understood."""
    try:
        return _SAID.decode(data)
    except msgspec.DecodeError:
        return None


def encode(said: Watch | Ready | Wake) -> bytes:
    """The bytes of a message."""
    return _PACK(said)


class _Hub(msgspec.Struct):
    """What a hub watches, and what it has not been told yet."""

    until: float  # monotonic
    runs: set[UUID] = msgspec.field(default_factory=set)
    all: bool = False
    news: dict[UUID, int] = msgspec.field(default_factory=dict)
    stirred: bool = False
    ready: int | None = None


class Announcer:
    """Tells hubs of this process's commits. All of it runs in one event loop."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._channels = Channels(redis_url)
        self._redis = connect(redis_url)
        self._hubs: dict[str, _Hub] = {}
        self._flusher: asyncio.Task[None] | None = None

    def committed(self, runs: Iterable[tuple[UUID, int]]) -> None:
        """These runs have new events, up to the version named. `runs` is looked at only if somebody watches."""
        if not self._hubs:
            return
        now = time.monotonic()
        new = list(runs)
        for name, hub in list(self._hubs.items()):
            if hub.until < now:
                del self._hubs[name]
                continue
            for id, version in new:
                if id in hub.runs:
                    hub.news[id] = version
            hub.stirred = hub.stirred or (hub.all and bool(new))
        self._soon()

    async def keep(self) -> None:
        """Listens to hubs until cancelled."""
        async with contextlib.aclosing(listen(self._url, self._channels.workers)) as heard:
            async for one in heard:
                match one:
                    case Subscribed():
                        await self._publish([(self._channels.hubs, b"")])
                    case Lost():
                        self._hubs.clear()
                    case Said(_, data):
                        self._watch(data)

    async def close(self) -> None:
        """Closes the connections."""
        if self._flusher is not None:
            self._flusher.cancel()
        await self._redis.aclose()

    def _watch(self, data: bytes) -> None:
        try:
            watch = _WATCH.decode(data)
            runs = {UUID(bytes=id) for id in watch.runs}
        except (msgspec.DecodeError, ValueError):  # a newer version's, or nobody's
            return
        if watch.hub not in self._hubs and len(self._hubs) >= MOST_HUBS:
            return
        hub = self._hubs.setdefault(watch.hub, _Hub(0.0))
        hub.until = time.monotonic() + KEEP
        hub.runs = runs if watch.whole else hub.runs | runs
        hub.all = watch.all
        if not hub.runs and not hub.all:
            del self._hubs[watch.hub]
            return
        hub.ready = watch.seq
        self._soon()

    def _soon(self) -> None:
        if self._flusher is None and any(
            hub.news or hub.stirred or hub.ready is not None for hub in self._hubs.values()
        ):
            self._flusher = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while messages := self._messages():
                await self._publish(messages)
        finally:
            self._flusher = None  # no await since there was nothing left

    def _messages(self) -> list[tuple[str, bytes]]:
        messages = []
        for name, hub in self._hubs.items():
            channel = self._channels.hub(name)
            if hub.ready is not None:
                messages.append((channel, encode(Ready(hub.ready))))
            if hub.news or hub.stirred:
                messages.append((channel, encode(Wake([(id.bytes, version) for id, version in hub.news.items()]))))
            hub.ready, hub.news, hub.stirred = None, {}, False
        return messages

    async def _publish(self, messages: list[tuple[str, bytes]]) -> None:
        try:
            pipe = self._redis.pipeline(transaction=False)
            for channel, data in messages:
                pipe.publish(channel, data)
            await pipe.execute()
        except (redis.RedisError, OSError) as error:
            _log.debug("live.not_told", error=str(error))
