"""The sources are looked at again and again, whatever goes wrong in between."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from structlog.testing import capture_logs

from events import definitions
from events.database import Database
from events.definitions import SourceRow
from ingest import catalogue as catalogues
from ingest.catalogue import Catalogue

pytestmark = pytest.mark.anyio


async def test_a_fault_that_nobody_thought_of_does_not_end_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    twice = asyncio.Event()

    async def epoch(_database: Database) -> int:
        nonlocal asked
        asked += 1
        if asked > 3:
            twice.set()
        return asked

    async def sources(_database: Database) -> list[SourceRow]:
        if asked < 3:
            raise KeyError("a definition that nobody thought of")
        return []

    pauses: list[float] = []
    sleep = asyncio.sleep

    async def paused(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(definitions, "epoch", epoch)
    monkeypatch.setattr(definitions, "sources", sources)
    monkeypatch.setattr(asyncio, "sleep", paused)
    known = Catalogue(cast("Database", None), None)
    with capture_logs() as lines:
        following = asyncio.create_task(known.follow())
        waiting = asyncio.create_task(twice.wait())
        done, _ = await asyncio.wait({following, waiting}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert following not in done
        assert waiting in done
        following.cancel()
        await asyncio.wait({following})
    assert known.usable
    said = [line["event"] for line in lines if line["log_level"] == "error"]
    assert said == ["catalogue.not_followed"] * 2
    assert set(pauses) == {catalogues.POLL}
    assert len(pauses) >= 3
