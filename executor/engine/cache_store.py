"""Results of nodes in Redis: kept for a time, and who works a result out meanwhile. A cache: what fails is a miss.

An entry is a hash of `keep` (milliseconds that it lives) and `data`; its age is `keep` less what it still has to live,
so no process's clock matters. Every entry and every lock goes by itself. `data` is crc32, then zstd over the JSON;
empty data says that the last result was too large to keep. An entry that is corrupt is as good as none.

Whoever leads holds a lock with a token of its own, renewed while it works: one that dies is replaced after `LOCK`
seconds. A lock that was lost costs a second call and nothing else, since any result may be kept.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import zlib
from typing import Any

import msgspec
import redis.asyncio as redis
import structlog
import zstandard
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript

from executor.engine.node import OUTPUT_LIMIT

PREFIX = "headrace:cache:"
LARGEST = 64 << 10
"""Bytes that an entry's data may have, compressed."""
LOCK = 5.0
"""Seconds after which a lock that nobody renews is free."""
PATIENCE = 0.25
"""Seconds that Redis may take."""
CONNECTIONS = 16
"""Questions at once, so that a burst is not taken for a slow Redis."""
AWAY = 1.0
"""Seconds in which Redis is not asked again after it failed."""
_TOO_LARGE_KEEP = 60.0

_LOOK = """
local entry = redis.call('HMGET', KEYS[1], 'keep', 'data')
local age = -1
if entry[1] then age = tonumber(entry[1]) - redis.call('PTTL', KEYS[1]) end
if entry[1] and age < tonumber(ARGV[3]) then return {age, entry[2], 0} end
local leads = redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2])
return {age, entry[2], leads and 1 or 0}
"""
_KEEP = """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'keep', ARGV[2], 'data', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1
"""
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_FREE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

_COMPRESSOR = zstandard.ZstdCompressor(level=1)
_DECOMPRESSOR = zstandard.ZstdDecompressor()
_log = structlog.get_logger(__name__)


class Found(msgspec.Struct, frozen=True):
    """What a look came to.

    Args:
        age: seconds since the entry was made; negative: there is none.
        data: its JSON; None: there is none, it is corrupt, or it was too large to keep (then `alone`).
        leads: the token of the lock, if this look got it.
        alone: nobody need wait for anybody: the last result was too large to be handed on.
    """

    age: float
    data: bytes | None
    leads: str | None = None
    alone: bool = False


class CacheStore:
    """The entries. Every method answers None (or does nothing) while Redis is away.

    Args:
        redis_url: where the entries live; beside the snapshots.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=Retry(NoBackoff(), 1)
        )
        self._look = self._redis.register_script(_LOOK)
        self._keep = self._redis.register_script(_KEEP)
        self._renew = self._redis.register_script(_RENEW)
        self._free = self._redis.register_script(_FREE)
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._away_until = 0.0

    async def look(self, key: str, ttl: float) -> Found | None:
        """The entry, and the lead if there is none younger than `ttl` seconds and nobody else has it."""
        token = secrets.token_hex(16)
        answer = await self._asked(self._look, [key, _lock(key)], [token, _ms(LOCK), _ms(ttl)])
        if answer is None:
            return None
        age, data, leads = answer
        found = unpacked(data) if data else None
        fresh = 0 <= age < _ms(ttl)
        return Found(age / 1000, found, token if leads else None, alone=fresh and found is None)

    async def keep(self, key: str, token: str, data: bytes, keep: float) -> None:
        """Makes the entry, which lives `keep` seconds, and frees the lock."""
        packed = packed_data(data)
        if len(packed) > LARGEST:
            packed, keep = b"", min(keep, _TOO_LARGE_KEEP)
        await self._asked(self._keep, [key, _lock(key)], [token, _ms(keep), packed])

    async def renew(self, key: str, token: str) -> bool:
        """Whether the lock is still held."""
        return bool(await self._asked(self._renew, [_lock(key)], [token, _ms(LOCK)]))

    async def free(self, key: str, token: str) -> None:
        """Frees the lock, if it is held."""
        await self._asked(self._free, [_lock(key)], [token])

    async def clear(self, pattern: str) -> int:
        """Removes the entries whose keys fit; how many.

        Raises:
            redis.RedisError, OSError: Redis is away.
        """
        removed = 0
        batch: list[bytes] = []
        async for key in self._redis.scan_iter(match=PREFIX + pattern, count=1000):
            batch.append(key)
            if len(batch) == 500:
                removed += await self._redis.unlink(*batch)
                batch.clear()
        return removed + (await self._redis.unlink(*batch) if batch else 0)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def _asked(self, script: AsyncScript, keys: list[str], args: list[str | int | bytes]) -> Any:
        """The answer; None while Redis is away."""
        async with self._turns:
            if time.monotonic() < self._away_until:
                return None
            try:
                return await script(keys=keys, args=args)
            except (redis.RedisError, OSError) as error:
                self._away_until = time.monotonic() + AWAY
                _log.debug("cache.away", error=str(error))
                return None


def packed_data(data: bytes) -> bytes:
    """crc32 (4 bytes, big end first), then zstd."""
    squeezed = _COMPRESSOR.compress(data)
    return zlib.crc32(squeezed).to_bytes(4, "big") + squeezed


def unpacked(data: Any) -> bytes | None:
    """What was packed; None if it is truncated, corrupt, or larger than an output may be."""
    if not isinstance(data, bytes) or len(data) < 5 or zlib.crc32(data[4:]).to_bytes(4, "big") != data[:4]:
        return None
    try:
        if not 0 <= zstandard.frame_content_size(data[4:]) <= OUTPUT_LIMIT:
            return None
        return _DECOMPRESSOR.decompress(data[4:])
    except zstandard.ZstdError:
        return None


def _lock(key: str) -> str:
    return "headrace:cache-lock:" + key.removeprefix(PREFIX)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
