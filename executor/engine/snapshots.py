"""Snapshots of runs in Redis: a cache of the fold, written when a run lets go, so that it wakes without its whole past.

A snapshot is used only if everything about it fits: the codec, the fold's version, the run, the checksum, and the event
it stands on, by its (tx, position) in the log it is read beside. Whatever does not fit, is missing, or cannot be read
in `PATIENCE` seconds is as good as none.
"""

from __future__ import annotations

import inspect
import zlib
from uuid import UUID

import msgspec
import redis.asyncio as redis
import structlog
import zstandard

from events import log
from events.database import Database
from executor.workflow import facts, paths, state, waits
from executor.workflow.facts import decode
from executor.workflow.state import RunState, evolve

CODEC = 1
REDUCER = zlib.crc32("".join(map(inspect.getsource, (facts, paths, state, waits))).encode())
"""The fold's version: whatever changes in it makes older snapshots as good as none, with nobody to remember it."""
PATIENCE = 0.25
"""Seconds that Redis may take before the log is read instead."""
KEEP = 7 * 86_400
"""Seconds after which an unused snapshot goes."""

# Only forward: a worker that wakes late must not put an older state over a newer one.
_SAVE = """
local old = redis.call('HGET', KEYS[1], 'version')
if old and tonumber(old) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'data', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
_log = structlog.get_logger(__name__)


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """What is kept. `anchor` is (tx, position) of the event with the state's version."""

    codec: int
    reducer: int
    run_id: UUID
    anchor: tuple[int, int]
    state: RunState


_COMPRESSOR = zstandard.ZstdCompressor(level=1)
_DECOMPRESSOR = zstandard.ZstdDecompressor()
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Snapshot)


class Snapshots:
    """Saves and loads runs' states.

    Args:
        redis_url: where snapshots live.
        database: the log they are checked against.
    """

    def __init__(self, redis_url: str, database: Database) -> None:
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
        self._save = self._redis.register_script(_SAVE)
        self._database = database

    async def save(self, run_id: UUID, state: RunState) -> None:
        """Keeps a state that the log holds already. Fails silently: it is a cache."""
        anchor = await log.anchor(self._database, run_id, state.version)
        if anchor is None:
            return
        data = pack(Snapshot(CODEC, REDUCER, run_id, anchor, state))
        try:
            await self._save(keys=[_key(run_id)], args=[state.version, data, KEEP])
        except (redis.RedisError, OSError) as error:
            _log.debug("snapshot.not_saved", run_id=str(run_id), error=str(error))

    async def load(self, run_id: UUID) -> RunState | None:
        """The state of a run: its snapshot and the events since, or the whole fold. None if the log has no such run."""
        snapshot = await self._read(run_id)
        state: RunState | None = None
        if snapshot is not None:
            version = snapshot.state.version
            if await log.anchor(self._database, run_id, version) == snapshot.anchor:
                state = snapshot.state
        for event in await log.stream(self._database, run_id, 0 if state is None else state.version + 1):
            state = evolve(state, decode(event.type, event.body or b""))
        return state

    async def _read(self, run_id: UUID) -> Snapshot | None:
        try:
            data = await self._redis.hget(_key(run_id), "data")
        except (redis.RedisError, OSError) as error:
            _log.debug("snapshot.not_read", run_id=str(run_id), error=str(error))
            return None
        snapshot = unpack(data) if isinstance(data, bytes) else None
        return snapshot if snapshot is not None and snapshot.run_id == run_id else None

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()


def pack(snapshot: Snapshot) -> bytes:
    """crc32 (4 bytes, big end first), then zstd over msgpack."""
    data = _COMPRESSOR.compress(_ENCODER.encode(snapshot))
    return zlib.crc32(data).to_bytes(4, "big") + data


def unpack(data: bytes) -> Snapshot | None:
    """The snapshot, or None when it is truncated, corrupt, or made by another codec or fold."""
    if len(data) < 5 or zlib.crc32(data[4:]).to_bytes(4, "big") != data[:4]:
        return None
    try:
        snapshot = _DECODER.decode(_DECOMPRESSOR.decompress(data[4:]))
    except (zstandard.ZstdError, msgspec.DecodeError):
        return None
    return snapshot if (snapshot.codec, snapshot.reducer) == (CODEC, REDUCER) else None


def _key(run_id: UUID) -> str:
    return f"headrace:snapshot:{run_id}"
