"""Ingest is told to end: what was read is finished, what was acknowledged is in the log, and nobody holds it up."""

from __future__ import annotations

import random
import signal

import pytest

from tests.senders import Senders
from tests.system import System
from tests.wires import head, signed_head, stored, wire

pytestmark = pytest.mark.anyio


async def test_sigterm_under_load_loses_nothing_that_was_acknowledged(system: System) -> None:
    chance = random.Random(3)
    await system.apply()
    ingest = await system.ingest()
    port = int(system.url.rpartition(":")[2])
    senders = Senders(system, count=8)
    for _ in range(3):
        await senders.until(len(senders.acknowledged) + chance.randrange(1, 60))
        ingest.send(signal.SIGTERM)
        await ingest.ends()
        ingest = await system.ingest(port=port)
    await senders.end()
    assert senders.given_up == 0
    rows = await system.database.fetch("SELECT stream_id FROM event WHERE type = 'delivery.received'")
    assert {row[0] for row in rows} == set(senders.acknowledged), "and nothing twice"


async def test_sigterm_waits_for_a_body_that_comes_and_not_for_one_that_does_not(system: System) -> None:
    await system.apply()
    ingest = await system.ingest()
    async with wire(system) as coming, wire(system) as stuck, wire(system) as idle:
        for line, id in ((coming, "coming"), (stuck, "stuck")):
            await line.say(signed_head(b"{}", id) + b"{")
        await idle.say(head(path="/health/live", method="GET"))
        assert await idle.status() == 200
        ingest.send(signal.SIGTERM)
        await idle.hears()  # until the other side ends: it has seen the signal
        await coming.say(b"}")
        assert await coming.status() == 202
        assert await stuck.status() == 503
        await ingest.ends()
    assert "Traceback" not in ingest.log.read_text()
    assert await stored(system) == 1
