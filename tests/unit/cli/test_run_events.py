"""Every event of a run is a line that people can read."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from executor.cli.run_events import told
from executor.workflow import facts
from executor.workflow.waits import ForApproval, ForChild, ForEvent, ForTime

ID = UUID(int=7)


@pytest.mark.parametrize(
    ("fact", "line"),
    [
        (facts.NodeCompleted("ask", 1, 7, 0.5), "ask: completed (attempt 1, 500 ms) 7"),
        (facts.NodeCompleted("ask", 1, 7, 0.5, cache="hit"), "ask: completed (attempt 1, 500 ms, cache hit) 7"),
        (
            facts.NodeCompleted("ask", 1, 7, 0.5, cache="stale"),
            "ask: completed (attempt 1, 500 ms, cache stale: the call failed) 7",
        ),
        (facts.NodeMapped("each", 1200), "each: 1,200 items to work on"),
        (facts.ItemEnded("each", 3, {"a": 1}), 'each: item 3 {"a":1}'),
        (facts.ItemEnded("each", 3, error="no"), "each: item 3 failed: no"),
        (facts.NodeDeferred("ask", 1, "busy", 0.0), "ask: put off until 1970-01-01 00:00:00: busy"),
        (facts.NodeWaiting("nap", 1, 0.0, ForTime()), "nap: waits for its time"),
        (
            facts.NodeWaiting("paid", 1, 0.0, ForEvent("shop", "paid.*", b"", b"", 0.0)),
            "paid: waits for an event of shop, type paid.*",
        ),
        (facts.NodeWaiting("boss", 1, 0.0, ForApproval("pay?")), "boss: waits for a decision: pay?"),
        (facts.NodeWaiting("kid", 1, 0.0, ForChild(ID, "bill")), f"kid: waits for run {ID} of bill"),
        (facts.SignalReceived(1, "decide", "boss", "me", "too late"), "heard decide for boss by me: too late"),
        (facts.RunPaused(1, "me", "lunch"), "paused by me: lunch"),
        (facts.RunReopened(1, "me", 0.0, ("a", "b")), "reopened by me, again: a, b"),
        (facts.RunCompleted({"n": 1}), 'completed {"n":1}'),
        (facts.RunFailed("a: error: no"), "failed: a: error: no"),
        (facts.RunCancelled("cancelled by me"), "cancelled: cancelled by me"),
    ],
)
def test_an_event_is_a_line(fact: facts.RunFact, line: str) -> None:
    type, body = facts.encode(fact)
    assert told(type, msgspec.json.decode(body)) == line
