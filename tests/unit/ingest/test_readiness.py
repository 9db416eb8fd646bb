"""Whoever asks whether ingest is ready, and however often: few questions, one answer, and few words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingest import readiness
from ingest.readiness import AWAY, Full, NotReady, Readiness, Readings, Ready, Spooling, told

pytestmark = pytest.mark.anyio

SECRET = "password authentication failed for user headrace at 10.1.2.3"


class Source:
    """What is asked; answers when it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Readiness | Exception = Ready()
        self.may = asyncio.Event()
        self.may.set()

    async def __call__(self) -> Readiness:
        self.asked += 1
        await self.may.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(readiness, "monotonic", lambda: now[0])
    return now


async def test_all_who_ask_share_one_question_and_its_answer_stands_a_second(clock: list[float]) -> None:
    source = Source()
    readings = Readings(source)
    source.may.clear()
    waiting = [asyncio.create_task(readings.now()) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # the first one, who caused the question, goes away
    await asyncio.sleep(0)
    source.may.set()
    assert await asyncio.gather(*waiting[1:]) == [Ready()] * 99
    source.answer = NotReady("gone")
    clock[0] += 0.99
    assert await readings.now() == Ready()
    assert source.asked == 1
    clock[0] += 0.02
    assert await readings.now() == NotReady("gone")
    assert source.asked == 2


async def test_a_question_that_fails_is_asked_again(clock: list[float]) -> None:
    source = Source()
    readings = Readings(source)
    source.answer = RuntimeError("ours")
    with pytest.raises(RuntimeError):
        await readings.now()
    source.answer = Ready()
    assert await readings.now() == Ready()


async def test_a_change_is_logged_once_with_its_reason(clock: list[float]) -> None:
    source = Source()
    readings = Readings(source)
    said: list[Any] = []
    for answer in (Ready(), Ready(1), NotReady(SECRET), NotReady("other"), NotReady("other", "starting"), Ready()):
        source.answer = answer
        clock[0] += 2
        with capture_logs() as lines:
            await readings.now()
        said.append([(line["now"], line["reason"]) for line in lines])
    assert said == [[("Ready", None)], [], [("NotReady", SECRET)], [], [("NotReady", "other")], [("Ready", None)]]


@pytest.mark.parametrize(
    ("found", "status", "body"),
    [
        (Ready(), 200, {"status": "ready"}),
        (Ready(2), 200, {"status": "ready", "refused": 2}),
        (
            Spooling(3, 40, 1.5, 0, SECRET),
            200,
            {"status": "spooling", "rows": 3, "size": 40, "age": 1.5, "refused": 0},
        ),
        (Full(3, 40, 0, SECRET), 503, {"status": "full", "rows": 3, "size": 40, "refused": 0}),
        (NotReady(SECRET), 503, {"status": "not ready", "reason": AWAY}),
    ],
)
def test_reasons_with_names_and_addresses_stay_inside(found: Readiness, status: int, body: dict[str, Any]) -> None:
    assert told(found) == (status, body)
