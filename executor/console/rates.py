"""How often a key, and a workspace, may ask for runs and workflows: a moving minute in Redis, over all consoles.

Counting is `limits`' (one Lua script for each hit, so that it is exact however many ask at once). Answers carry the
`RateLimit` and `RateLimit-Policy` fields (draft-ietf-httpapi-ratelimit-headers-10), a refusal 429 with `Retry-After`.
While Redis is away nobody is counted and nobody refused: the console serves, and the log bounds it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from events.api_keys import Principal
from events.settings import Settings
from executor.console.problems import Refused

COUNTED = ("/run", "/workflow")
"""The paths under which requests are counted."""
PATIENCE = 0.25
"""Seconds for an answer of Redis; then the request goes on uncounted."""
WINDOW = 60

_log = structlog.get_logger(__name__)


class Rates:
    """The two limits of a request.

    Args:
        per_key, per_workspace: requests a minute.
    """

    def __init__(self, redis_url: str, per_key: int, per_workspace: int) -> None:
        storage = RedisStorage(
            f"async+{redis_url}",
            implementation="redispy",
            wrap_exceptions=True,
            key_prefix="headrace:rate",
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
        )
        self._limiter = MovingWindowRateLimiter(storage)
        self._limits = {
            "key": RateLimitItemPerMinute(per_key),
            "workspace": RateLimitItemPerMinute(per_workspace),
        }
        self._complained = -math.inf

    async def count(self, principal: Principal) -> dict[str, str]:
        """Counts a request; the fields of its answer.

        Raises:
            Refused: 429; it is one too many.
        """
        names = {"key": principal.id.hex, "workspace": str(principal.workspace_id)}
        told: list[str] = []
        try:
            async with asyncio.timeout(2 * PATIENCE):
                for name, limit in self._limits.items():  # one that is refused is not counted by the next
                    passed = await self._limiter.hit(limit, name, names[name])
                    stats = await self._limiter.get_window_stats(limit, name, names[name])
                    wait = max(0, math.ceil(stats.reset_time - time.time()))
                    told.append(f'"{name}";r={stats.remaining};t={wait}')
                    if not passed:
                        detail = f"expected at most {limit.amount} requests a minute of this {name}, got more"
                        fields = {**self._fields(told), "Retry-After": str(max(1, wait))}
                        raise Refused(429, f"{detail}; come back in {max(1, wait)} s", headers=fields)
        except (StorageError, OSError, TimeoutError) as error:
            self._complain(error)
            return {}
        return self._fields(told)

    def _fields(self, told: Sequence[str]) -> dict[str, str]:
        policy = ", ".join(f'"{name}";q={limit.amount};w={WINDOW}' for name, limit in self._limits.items())
        return {"RateLimit-Policy": policy, "RateLimit": ", ".join(told)}

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self._complained > 10:
            self._complained = time.monotonic()
            _log.warning("console.rates", error=str(error) or type(error).__name__, effect="requests are not counted")


class Counting:
    """Counts requests, behind whoever finds out whose they are."""

    def __init__(self, app: ASGIApp, rates: Rates) -> None:
        self.app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        user: Any = scope.get("user")
        path = scope["path"]
        counted = any(path == one or path.startswith(f"{one}/") for one in COUNTED)
        if scope["type"] != ScopeType.HTTP or not counted or not isinstance(user, Principal):
            await self.app(scope, receive, send)
            return
        fields = await self._rates.count(user)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableScopeHeaders.from_message(message)
                for name, value in fields.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, answer)


def rates_of(settings: Settings) -> Rates:
    """The limits of the settings."""
    return Rates(settings.redis_url, settings.api_rate, settings.api_workspace_rate)
