"""The crash matrix over every control node, and that it sees what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from executor.testing import Bench, crash_matrix
from executor.workflow.outcomes import NodeError

CALL = {"uses": "http.request", "with": {"url": "http://sink.example/"}}
EVENT = ("shop", "order.paid", {"id": 7, "items": [1, 2, 3]})


def workflow(name: str = "order", **document: Any) -> dict[str, Any]:
    return {"workflow": name, "on": [{"source": "shop"}], **document}


CHILD = workflow("child", on=[], nodes={"work": CALL}, output="${{ nodes.work.output.n + input.more }}")


def answer(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"n": 1, "url": inputs["url"]}


def refuse(inputs: dict[str, Any]) -> None:
    raise NodeError("http_4xx", "no")


CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], Callable[[Bench], None]]] = {
    "chain": ([workflow(nodes={"a": CALL, "b": {**CALL, "needs": ["a"]}})], {}, Bench.finish),
    "diamond": (
        [
            workflow(
                nodes={
                    "a": CALL,
                    "b": {**CALL, "needs": ["a"]},
                    "c": {**CALL, "needs": ["a"]},
                    "d": {**CALL, "needs": ["b", "c"]},
                }
            )
        ],
        {},
        Bench.finish,
    ),
    "timer": (
        [workflow(nodes={"a": {"uses": "wait.timer", "with": {"for": "1h"}}, "b": {**CALL, "needs": ["a"]}})],
        {},
        Bench.finish,
    ),
    "child": (
        [
            workflow(
                nodes={
                    "a": {"uses": "workflow.run", "with": {"workflow": "child", "input": {"more": 4}}},
                    "b": {**CALL, "needs": ["a"]},
                }
            ),
            CHILD,
        ],
        {},
        Bench.finish,
    ),
    "emit": (
        [
            workflow(nodes={"a": {"uses": "emit", "with": {"type": "order.checked", "body": {"x": 1}}}}),
            workflow("listener", on=[{"source": "emit", "type": "order.*"}], nodes={"c": CALL}),
        ],
        {},
        Bench.finish,
    ),
    "retry": (
        [workflow(nodes={"a": {**CALL, "retry": {"max_attempts": 3, "first": "1s", "on": ["http_4xx"]}}})],
        {"a": refuse},
        Bench.finish,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_crash_at_any_commit_changes_nothing(case: str) -> None:
    documents, stubs, then = CASES[case]
    report = crash_matrix(documents, EVENT, stubs={"http.request": answer, **stubs}, then=then)
    assert report.points >= 2


def test_the_matrix_sees_a_node_that_answers_by_how_often_it_was_asked() -> None:
    asked: list[int] = []

    def fickle(inputs: dict[str, Any]) -> int:
        asked.append(1)
        return len(asked)

    documents = [workflow(nodes={"a": CALL})]
    report = crash_matrix(documents, EVENT, stubs={"a": fickle}, check=False)
    assert report.faults
