"""Senders of a fault run: each event is sent until it is acknowledged, under one delivery id, as providers do.

Each event's body and delivery id hold a key that is like no other, by which the checker finds it in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from uuid import UUID

import httpx2

from ingest.signing import sign

TIMEOUT = 4.0
"""Seconds after which a sender hangs up and tries again."""
SENDERS = 16
BACKLOG = 400
"""Work items above which senders wait: a slow machine gets fewer events a second, and not a heap to work off."""


class Load:
    """`count` events over `seconds`, evenly; later if there is too much to do.

    Args:
        url: the source's address.
        secret: signs, as GitHub does.
    """

    def __init__(self, url: str, secret: str, count: int, seconds: float, chance: random.Random) -> None:
        self.acknowledged: dict[str, UUID] = {}
        self.given_up: list[str] = []
        self.again: Counter[str] = Counter()
        self._url, self._secret = url, secret
        self._count, self._seconds = count, seconds
        self._chance = chance
        self._may = asyncio.Event()
        self._may.set()

    def backlog(self, items: int) -> None:
        """Told how much there is to do: senders wait while that is too much."""
        if items < BACKLOG:
            self._may.set()
        else:
            self._may.clear()

    async def run(self, patience: float) -> None:
        """Returns when all are acknowledged, or `patience` seconds after the last was to be sent."""
        begun = time.monotonic()
        numbers = iter(range(self._count))
        async with httpx2.AsyncClient(timeout=TIMEOUT) as client, asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._sender(client, numbers, begun, begun + self._seconds + patience))

    async def _sender(self, client: httpx2.AsyncClient, numbers: Iterator[int], begun: float, end: float) -> None:
        for number in numbers:  # one iterator, which all senders share
            due = begun + number * self._seconds / self._count
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    await self._may.wait()
            await self._send(client, number, end)

    async def _send(self, client: httpx2.AsyncClient, number: int, end: float) -> None:
        key = f"event-{number}"
        padding = "wheel " * self._chance.randrange(700)
        body = json.dumps({"key": key, "number": number, "padding": padding}).encode()
        while time.monotonic() < end:
            headers = sign("github", self._secret, "push", key, body, time.time())
            try:
                response = await client.post(self._url, content=body, headers=headers)
            except httpx2.TransportError as error:
                self.again[type(error).__name__] += 1
                await asyncio.sleep(0.1)
                continue
            if 200 <= response.status_code < 300:
                self.acknowledged[key] = UUID(response.json()["id"])
                return
            if response.status_code != 503:
                raise AssertionError(f"{key}: expected a 2xx or 503, got {response.status_code}: {response.text}")
            self.again["503"] += 1
            await asyncio.sleep(0.1)
        self.given_up.append(key)
