"""What worker processes say of themselves, and what is left to do in the queues.

A beat is a key in Redis that goes by itself when nobody renews it. Nothing hangs on it: without Redis one sees no
workers, and work goes on. The queues are counted in PostgreSQL, which is the truth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import msgspec
import redis
import structlog

from events.database import Database
from events.errors import Unavailable

EVERY = 5.0
"""Seconds between two beats."""
KEEP = 20
"""Seconds after which a worker that does not beat any more is gone."""
PREFIX = "headrace:worker:"

_log = structlog.get_logger(__name__)
_QUEUES = """
SELECT queue, count(*) FILTER (WHERE owner IS NULL AND due_at <= now()) AS due,
  count(*) FILTER (WHERE owner IS NOT NULL AND due_at > now()) AS held,
  count(*) FILTER (WHERE owner IS NULL AND due_at > now()) AS later,
  count(*) FILTER (WHERE attempt >= 2) AS suspects,
  extract(epoch FROM now() - min(due_at) FILTER (WHERE owner IS NULL AND due_at <= now()))::float8 AS oldest
FROM work_item GROUP BY queue ORDER BY queue
"""


class WorkerBeat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process as it is now. Times are Unix seconds by its host's clock, lengths seconds, sizes bytes.

    Args:
        owner: host and pid, as work items name their holders.
        capacity: how many runs it holds at once at most; `in_flight`: how many it does.
        finished: work items that it has had since it began, whatever came of them.
        last_claim, last_finish: when it last took or finished something; None: never.
        loop_lag: how long its event loop took to answer, or has not answered yet.
        ready: whether it could take work now; `reason`: why not.
    """

    owner: str
    queues: tuple[str, ...]
    version: str
    started_at: float
    at: float
    capacity: int
    in_flight: int
    finished: int
    last_claim: float | None
    last_finish: float | None
    loop_lag: float
    memory: int
    draining: bool
    ready: bool
    reason: str | None


class QueueDepth(msgspec.Struct, frozen=True):
    """A queue. `due`: what somebody could take now; `held`: what somebody has; `later`: what sleeps or waits;
    `suspects`: what failed twice without progress; `oldest`: for how many seconds the first of `due` has waited.
    """

    queue: str
    due: int
    held: int
    later: int
    suspects: int
    oldest: float | None


class Beats:
    """Beats for one process. Synchronous, for a thread of its own."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=2.0, socket_connect_timeout=2.0)
        self._failing = False

    def beat(self, beat: WorkerBeat) -> None:
        """Says it. Never fails."""
        try:
            self._redis.set(PREFIX + beat.owner, msgspec.json.encode(beat), ex=KEEP)
            self._failing = False
        except (redis.RedisError, OSError) as error:
            if not self._failing:
                _log.warning("beat.not_sent", error=str(error))
            self._failing = True

    def close(self, owner: str) -> None:
        """The process ends well: it is gone at once."""
        with contextlib.suppress(redis.RedisError, OSError):
            self._redis.delete(PREFIX + owner)
        self._redis.close()


def workers(redis_url: str) -> list[WorkerBeat]:
    """The workers that beat, by owner.

    Raises:
        Unavailable: Redis does not answer.
    """
    try:
        with redis.Redis.from_url(redis_url, socket_timeout=5.0, socket_connect_timeout=2.0) as client:
            keys = sorted(client.scan_iter(match=f"{PREFIX}*", count=1000))
            found = client.mget(keys) if keys else []
    except (redis.RedisError, OSError) as error:
        raise Unavailable(f"Redis: {error}; workers go on without it, but cannot be seen") from error
    return [msgspec.json.decode(data, type=WorkerBeat) for data in found if data is not None]


async def queues(database: Database, names: Sequence[str]) -> list[QueueDepth]:
    """What is left to do in each queue; those in which there is nothing too."""
    found = {row["queue"]: QueueDepth(*row) for row in await database.fetch(_QUEUES)}
    return [found.get(name, QueueDepth(name, 0, 0, 0, 0, None)) for name in dict.fromkeys([*names, *found])]
