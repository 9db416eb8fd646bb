"""A node that is put off: the engine comes back when it was told to, and the attempt does not count."""

from __future__ import annotations

from typing import Any

from executor import NodeDeferral
from executor.testing import Bench
from executor.workflow.facts import NodeCompleted, NodeDeferred

DOCUMENT: dict[str, Any] = {
    "workflow": "w",
    "on": [{"source": "s"}],
    "nodes": {"ask": {"uses": "http.request", "if": "event.body.go", "with": {"url": "https://api.example"}}},
}


def test_a_node_that_is_put_off_is_called_again_at_its_time_as_the_same_attempt() -> None:
    says: list[Any] = [NodeDeferral("busy", 60.0), NodeDeferral("busy", 60.0), {"ok": True}]

    def answer(inputs: dict[str, Any]) -> Any:
        said = says.pop(0)
        if isinstance(said, NodeDeferral):
            raise said
        return said

    bench = Bench([DOCUMENT], stubs={"ask": answer})
    run = bench.deliver("s", body={"go": True})
    bench.advance(59)
    assert (len(bench.calls), bench.result(run).status) == (1, "running")
    bench.finish()
    ended = bench.result(run)
    assert (ended.status, ended.outputs) == ("completed", {"ask": {"ok": True}})
    assert [call.attempt for call in bench.calls] == [1, 1, 1], "it has no retries: none was an attempt"
    assert [fact.count for fact in ended.facts if isinstance(fact, NodeDeferred)] == [1, 2]
    assert [fact.attempt for fact in ended.facts if isinstance(fact, NodeCompleted)] == [1]
