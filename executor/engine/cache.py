"""The cache of nodes' results: a call that was made lately is not made again, and the same call is made once at a time.

Promises:
- Only what completed is kept. Every failure of the cache, Redis away, a corrupt entry, is a miss: the node is called.
- Of all that want the same result at once, in all workers, one calls and the others wait for it, at most as long as the
  node's timeout; then they call too. One that dies while it calls is replaced within seconds.
- With `stale`, a result that is over its time serves when the call fails, up to that much longer.
- Results are told apart by workspace, node type, its version, and the inputs; or, with `key`, by the workflow's node
  and the key's value. Endpoints and secrets are not part of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from executor.engine.cache_store import LOCK, PREFIX, CacheStore, Found
from executor.engine.node import from_json
from executor.workflow.definition import Caching
from executor.workflow.outcomes import CacheUse, Completed, Failed, Outcome

FIRST_LOOK = 0.02
"""Seconds after which one that waits looks again; each time twice as long, up to `LAST_LOOK`."""
LAST_LOOK = 0.25

Call = Callable[[], Awaitable[Outcome]]


def cache_key(workspace: int, uses: str, version: int, value: Any) -> str | None:
    """The key of a result; None where no key can be made. `value`: the inputs, or what stands for them."""
    try:
        told = msgspec.msgpack.encode((version, value), order="deterministic")
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return f"{PREFIX}{workspace}:{uses}:{hashlib.blake2b(told, digest_size=20).hexdigest()}"


class NodeCache:
    """Calls through the cache.

    Args:
        store: the entries.
    """

    def __init__(self, store: CacheStore) -> None:
        self._store = store
        self.uses: Counter[CacheUse] = Counter()
        """How often each, since the process began."""
        self._here: dict[str, asyncio.Event] = {}  # calls under way in this process; set at their end

    async def through(
        self,
        key: str,
        caching: Caching,
        call: Call,
        *,
        timeout: float,  # noqa: ASYNC109 - bounds the wait for another's call
        flying: set[asyncio.Task[Any]],
    ) -> Outcome:
        """The result, with `cache` saying where it is from.

        Whatever is raised is the call's.

        Args:
            timeout: seconds to wait for another's call at most.
            flying: holds what waits here. Who cancels that ends this attempt and nothing else.
        """
        outcome = await self._through(key, caching, call, timeout, flying)
        if isinstance(outcome, Completed) and outcome.cache is not None:
            self.uses[outcome.cache] += 1
        return outcome

    async def _through(
        self, key: str, caching: Caching, call: Call, patience: float, flying: set[asyncio.Task[Any]]
    ) -> Outcome:
        waiting = asyncio.create_task(self._awaited(key, caching, patience))
        flying.add(waiting)
        try:
            await asyncio.wait((waiting,))
        except asyncio.CancelledError:
            waiting.cancel()
            raise
        finally:
            flying.discard(waiting)
        if waiting.cancelled():
            return Failed("error", "the wait for a cached result was cancelled, with its run")
        found = waiting.result()
        if found is None:
            return _from(await call(), "miss")
        if found.data is not None and found.leads is None and found.age < caching.ttl:
            return _from(from_json(found.data), "hit")
        old = found.data if found.age < caching.ttl + caching.stale else None
        if found.leads is None:
            return _served(await call(), old)
        return _served(await self._lead(key, found.leads, caching, call), old)

    async def _awaited(self, key: str, caching: Caching, patience: float) -> Found | None:
        """A fresh entry, the lead, or leave to call beside others (no lead); None: the cache is away."""
        clock = asyncio.get_running_loop().time
        until = clock() + patience
        pause = FIRST_LOOK
        while True:
            under_way = self._here.get(key)
            if under_way is None:
                found = await self._store.look(key, caching.ttl)
                if found is None or found.alone or found.leads or (found.age >= 0 and found.age < caching.ttl):
                    return found
                if clock() >= until:
                    return found
                await asyncio.sleep(min(pause, max(until - clock(), 0.0)))
                pause = min(pause * 2, LAST_LOOK)
                continue
            try:
                async with asyncio.timeout_at(until):
                    await under_way.wait()
            except TimeoutError:
                return Found(-1.0, None)

    async def _lead(self, key: str, token: str, caching: Caching, call: Call) -> Outcome:
        mine = self._here.setdefault(key, asyncio.Event())
        renewing = asyncio.create_task(self._renew(key, token))
        kept = False
        try:
            outcome = await call()
            if isinstance(outcome, Completed):
                await self._store.keep(key, token, msgspec.json.encode(outcome.output), caching.ttl + caching.stale)
                kept = True
            return outcome
        finally:
            renewing.cancel()
            if not kept:
                await self._store.free(key, token)
            if self._here.get(key) is mine:
                del self._here[key]
            mine.set()

    async def _renew(self, key: str, token: str) -> None:
        while True:
            await asyncio.sleep(LOCK / 3)
            await self._store.renew(key, token)


def _served(outcome: Outcome, old: bytes | None) -> Outcome:
    """The outcome of a call, or the old result in its place. A mistake in the inputs is not covered up."""
    if isinstance(outcome, Completed):
        return _from(outcome, "miss")
    if old is None or (isinstance(outcome, Failed) and outcome.kind in ("input", "expression")):
        return outcome
    return _from(from_json(old), "stale")


def _from(outcome: Outcome, use: CacheUse) -> Outcome:
    return msgspec.structs.replace(outcome, cache=use) if isinstance(outcome, Completed) else outcome
