"""What happens in the demo, step by step, until every run has ended. `Demo.tell` is the story."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Mapping
from uuid import UUID

import msgspec
import redis

from events import log
from events.audit import held_by, work_left
from events.database import Database
from events.replay import outcome, replay
from events.settings import Settings
from events.types import REPLAY_QUEUE
from executor.cli.acting import ring
from executor.cli.common import operator
from executor.cli.machine import Machine
from executor.cli.payloads import Payload, own_payloads
from executor.cli.senders import sender_for
from executor.cli.sending import Delivery, Tally, send_all
from ingest.definition import SourceDefinition

SOURCES = {"shop": "generic", "github": "github", "stripe": "stripe"}
"""The demo's sources, with their presets. Half of the webhooks are the shop's, the rest of both others."""
LASTS = 6.0
"""Seconds that the sending takes, so that there is a middle for things to go wrong in."""
VICTIM = "worker-webhook"


class Demo:
    """One demo: what it is made with, and what is known of it so far.

    Args:
        url: where ingest is.
        secret: by source.
        count: how many webhooks.
        say: told, in a sentence, what happens.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        machine: Machine,
        url: str,
        secret: Mapping[str, str],
        count: int,
        say: Callable[[str], None],
    ) -> None:
        self.tally = Tally()
        self.acknowledged: dict[UUID, bytes] = {}
        self.expected: set[tuple[UUID, str]] = set()
        self.replayed: UUID | None = None
        self.at = "starting"
        self._settings, self._machine, self._say = settings, machine, say
        self._url, self._secret, self._count = url, secret, count

    async def tell(self) -> None:
        """Sends, kills, empties, waits, replays. Bound it in time from outside; `at` says how far it came."""
        self.at = f"sending ({self._count} webhooks)"
        self._say(f"sending {self._count} signed webhooks over HTTP, about {self._count / LASTS:.0f} a second")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send())
            group.create_task(self._disturb())
        self._say(f"all sent: {len(self.acknowledged)} acknowledged, {self.tally.retries} sent again")
        async with operator(self._settings) as database:
            await self._all_ended(database, "waiting for the runs to end")
            await self._replay(database)
            await self._all_ended(database, "waiting for the replayed run to end")

    async def _send(self) -> None:
        deliveries = self._deliveries()
        share = {source: 0.5 if source == "shop" else 0.25 for source in SOURCES}
        async with asyncio.TaskGroup() as group:
            for source, payloads in deliveries.items():
                make = sender_for(SourceDefinition(source=source, preset=SOURCES[source]), self._secret[source])
                done = self._noting(source)
                rate = self._count * share[source] / LASTS
                group.create_task(send_all(f"{self._url}/in/{source}", payloads, make, done, rate=rate, concurrency=8))

    def _deliveries(self) -> dict[str, list[Payload]]:
        """What each source sends."""
        quarter = self._count // 4
        own = {source: itertools.cycle(own_payloads(preset)) for source, preset in SOURCES.items()}
        return {
            "shop": [_order(number) for number in range(self._count - 2 * quarter)],
            "github": list(itertools.islice(own["github"], quarter)),
            "stripe": list(itertools.islice(own["stripe"], quarter)),
        }

    def _noting(self, source: str) -> Callable[[Delivery], None]:
        def done(delivery: Delivery) -> None:
            self.tally.count(delivery)
            if delivery.event_id is not None:
                self.acknowledged[delivery.event_id] = delivery.body
                self.expected |= {(delivery.event_id, name) for name in _wanted_by(source, delivery.body)}

        return done

    async def _disturb(self) -> None:
        """Kills a worker and empties Redis on the way, and tells how far the sending is."""
        async for sent in self._milestones(0.25, 0.4, 0.6, 0.75):
            match sent:
                case 0.4:
                    await self._kill()
                case 0.6:
                    await asyncio.to_thread(_flush, self._settings.redis_url)
                    self._say("FLUSHALL: Redis is empty, doorbells and snapshots are gone")
                case share:
                    self._say(f"{self.tally.sent} of {self._count} sent ({share:.0%})")

    async def _kill(self) -> None:
        pid = await asyncio.to_thread(self._machine.supervisor.kill, VICTIM)
        async with operator(self._settings) as database:
            held = await held_by(database, pid)
        self._say(f"kill -9 {pid}: the worker of the queue webhook, which held {held} deliveries and runs")

    async def _milestones(self, *shares: float) -> AsyncIterator[float]:
        for share in shares:
            while self.tally.sent < share * self._count:  # noqa: ASYNC110 - a look now and then will do
                await asyncio.sleep(0.02)
            yield share

    async def _all_ended(self, database: Database, at: str) -> None:
        self.at = at
        turns = itertools.count()
        while (left := await work_left(database)) > 0:
            self.at = f"{at} ({left} left)"
            if next(turns) % 10 == 9:
                self._say(f"{left} deliveries and runs still to be finished")
            await asyncio.sleep(0.1)

    async def _replay(self, database: Database) -> None:
        """Replays one run by its id, as a person would."""
        self.at = "replaying a run"
        runs = await log.runs(database, limit=1, workflow="order-paid")
        asked = await replay(database, runs[0].id, actor="demo", reason="to show that it can be done again")
        await asyncio.to_thread(ring, self._settings.redis_url, REPLAY_QUEUE)
        while (came := await outcome(database, asked)) is None:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)
        again = msgspec.convert(came["runs"], list[dict[str, str]])
        self.replayed = UUID(again[0]["id"])
        self._say(f"run {runs[0].id} is replayed as {self.replayed}")


def _order(number: int) -> Payload:
    chance = random.Random(number)
    amount = chance.randrange(100, 20_000)
    order = {"order": f"A-{1000 + number}", "customer": f"c{chance.randrange(1, 40)}", "amount": amount}
    return "order.paid", msgspec.json.encode(order)


def _wanted_by(source: str, body: bytes) -> set[str]:
    """The workflows that want a delivery by the demo's definitions; said here again, to check them."""
    match source:
        case "shop":
            large = msgspec.json.decode(body)["amount"] >= 1000
            return {"order-count", "order-paid"} if large else {"order-count"}
        case "github":
            return {"repository-activity"}
        case _:
            return {"payment"}


def _flush(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushall()
