"""When a worker is ready and when it is not, from what is known of it."""

from __future__ import annotations

import msgspec
import pytest

from executor.worker.health import AWAY, DEAD, LAG, Facts

WELL = Facts(now=100.0, asked=99.5, answered=99.6, database=99.0, consuming=True, draining=False)


def test_a_worker_that_answers_is_ready() -> None:
    assert (WELL.reason, WELL.alive, WELL.lag) == (None, True, 0.0)


@pytest.mark.parametrize(
    ("change", "reason", "alive"),
    [
        ({"draining": True}, "draining", True),
        ({"asked": 100 - LAG - 1, "answered": 90.0}, "blocked for 6 s", True),
        ({"asked": 99.9, "answered": 90.0}, None, True),
        ({"asked": 100 - DEAD - 1, "answered": 30.0}, "blocked for 61 s", False),
        ({"database": 100 - AWAY - 1}, "PostgreSQL has not answered for 11 s", True),
        ({"consuming": False}, "no thread waits for doorbells", True),
    ],
)
def test_what_keeps_it_from_work_is_told(change: dict[str, object], reason: str | None, alive: bool) -> None:
    facts = msgspec.structs.replace(WELL, **change)
    assert facts.alive is alive
    if reason is None:
        assert facts.reason is None
    else:
        assert reason in (facts.reason or "")
