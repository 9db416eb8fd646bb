"""Senders that behave as webhook providers do: they send again what was not acknowledged, under the same id."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import httpx2

from tests.system import System


class Senders:
    """Posts deliveries until told to end; keeps what was acknowledged: id to body.

    A try that fails for whatever reason is repeated under the same delivery id, at most `tries` times.
    """

    def __init__(self, system: System, count: int = 8, tries: int = 400) -> None:
        self.acknowledged: dict[UUID, bytes] = {}
        self.refused: list[int] = []
        self.repeated = 0
        self.given_up = 0
        self._system = system
        self._tries = tries
        self._ending = asyncio.Event()
        self._tasks = [asyncio.create_task(self._send(number)) for number in range(count)]

    async def until(self, acknowledged: int) -> None:
        """Waits until so many are acknowledged."""
        while len(self.acknowledged) < acknowledged:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Finishes what is under way."""
        self._ending.set()
        await asyncio.gather(*self._tasks)

    async def _send(self, sender: int) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            body = json.dumps({"sender": sender, "number": number, "padding": "wheel " * (number % 700)}).encode()
            await self._until_acknowledged(f"{sender}-{number}", body)

    async def _until_acknowledged(self, id: str, body: bytes) -> None:
        for _ in range(self._tries):
            try:
                response = await self._system.post(body, id=id)
            except httpx2.TransportError:
                self.repeated += 1
                await asyncio.sleep(0.05)
                continue
            if response.status_code == 202:
                answer = response.json()
                self.acknowledged[UUID(answer["id"])] = body
                return
            assert response.status_code == 503, response.text
            assert "retry-after" in response.headers
            self.refused.append(response.status_code)
            await asyncio.sleep(0.05)
        self.given_up += 1
