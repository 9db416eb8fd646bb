"""Sends webhooks as a good sender does: at a steady rate, and again, under the same id, until acknowledged.

What makes a sender try again is no answer, a 5xx or a 429; it waits longer each time, at least as long as the
answer asks for, and gives up after `TRIES`. Any other answer is final.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

import httpx2
import msgspec

from executor.cli.payloads import Payload
from executor.cli.senders import Sign

TRIES = 12
"""With pauses of 0.2 s, 0.4 s … 5 s: about 40 s before a delivery is given up."""
LONGEST = 5.0
"""Seconds between two tries, at most."""
TIMEOUT = 30.0
"""Seconds for one answer."""


class Delivery(msgspec.Struct, frozen=True):
    """What came of one delivery.

    Args:
        event_id: None where the source answers something of its own, as its provider wants it.
        status: 0: no answer.
        seconds: from the first try to the last answer.
    """

    event_id: UUID | None
    duplicate: bool
    status: int
    said: str
    body: bytes
    tries: int
    seconds: float

    @property
    def acknowledged(self) -> bool:
        return 200 <= self.status < 300


class Tally(msgspec.Struct):
    """What came of all of them."""

    accepted: int = 0
    duplicate: int = 0
    refused: int = 0
    failed: int = 0
    retries: int = 0
    waits: list[float] = []
    fault: str = ""
    """What the first one that was not acknowledged was told."""

    def count(self, delivery: Delivery) -> None:
        """Adds one."""
        self.retries += delivery.tries - 1
        if delivery.acknowledged:
            self.waits.append(delivery.seconds)
            if delivery.duplicate:
                self.duplicate += 1
            else:
                self.accepted += 1
            return
        if 400 <= delivery.status < 500:
            self.refused += 1
        else:
            self.failed += 1
        self.fault = self.fault or f"{delivery.status or 'no answer'}: {delivery.said}"

    @property
    def sent(self) -> int:
        return self.accepted + self.duplicate + self.refused + self.failed

    def wait(self, share: float) -> float:
        """The wait for an acknowledgement that this share did not exceed, in seconds; 0 without any."""
        waits = sorted(self.waits)
        return waits[min(len(waits) - 1, int(share * len(waits)))] if waits else 0.0


async def send_all(
    url: str,
    payloads: Iterable[Payload],
    make: Sign,
    done: Callable[[Delivery], None],
    *,
    rate: float,
    concurrency: int,
) -> None:
    """Sends every payload once, each under a new delivery id.

    Args:
        url: the source's, `http://…/in/<source>`.
        done: told of each delivery when nothing more comes of it.
        rate: how many are begun per second, at most.
        concurrency: how many are under way at once, at most.
    """
    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    start = time.monotonic()
    turns = enumerate(payloads)
    async with httpx2.AsyncClient(limits=limits, timeout=TIMEOUT, trust_env=False) as client:

        async def lane(turns: Iterator[tuple[int, Payload]]) -> None:
            for turn, (event, body) in turns:
                await asyncio.sleep(start + turn / rate - time.monotonic())
                done(await _deliver(client, url, make, event, body))

        async with asyncio.TaskGroup() as lanes:
            for _ in range(concurrency):
                lanes.create_task(lane(turns))


async def _deliver(client: httpx2.AsyncClient, url: str, make: Sign, event: str, body: bytes) -> Delivery:
    delivery_id = str(uuid.uuid4())
    began = time.monotonic()
    status, said, pause = 0, "", 0.0
    for attempt in range(1, TRIES + 1):
        sent = make(event, delivery_id, body, time.time())
        target = f"{url}?{sent.query}" if sent.query else url
        try:
            answer = await client.post(target, content=sent.body, headers=sent.headers)
        except httpx2.TransportError as error:
            status, said, pause = 0, f"{type(error).__name__} {error}".strip(), 0.0
        else:
            status, said, pause = answer.status_code, answer.text[:200], _asked_pause(answer)
            if status < 500 and status != 429:
                return _final(answer, sent.body, attempt, time.monotonic() - began)
        if attempt < TRIES:
            await asyncio.sleep(max(pause, min(LONGEST, 0.1 * 2**attempt) * random.uniform(0.5, 1.0)))
    return Delivery(None, False, status, said, body, TRIES, time.monotonic() - began)


def _final(answer: httpx2.Response, body: bytes, tries: int, seconds: float) -> Delivery:
    said = answer.text[:200]
    if not answer.is_success:
        return Delivery(None, False, answer.status_code, said, body, tries, seconds)
    try:
        acknowledged = msgspec.json.decode(answer.content, type=_Acknowledged)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Delivery(None, False, answer.status_code, said, body, tries, seconds)
    return Delivery(acknowledged.id, acknowledged.duplicate, answer.status_code, "", body, tries, seconds)


class _Acknowledged(msgspec.Struct):
    id: UUID
    duplicate: bool


def _asked_pause(answer: httpx2.Response) -> float:
    asked = answer.headers.get("retry-after", "")
    return min(float(asked), 60.0) if asked.isdigit() else 0.0
