"""The crash matrix over every control node, and that it sees what goes wrong."""

from __future__ import annotations

import contextlib
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


def refuse_two(inputs: dict[str, Any]) -> str:
    if inputs["url"].endswith("/2"):
        raise NodeError("http_4xx", "no")
    return "yes"


NAP: dict[str, Any] = {"uses": "wait.timer", "with": {"for": "10s"}}
WAIT: dict[str, Any] = {
    "uses": "wait.event",
    "with": {"source": "bank", "match": "event.body.order == trigger.body.id", "look_back": "1h"},
}


def mapped(nodes: dict[str, Any], *, items: str = "${{ event.body.items }}", **more: Any) -> dict[str, Any]:
    each = {**CALL, "with": {"url": "http://sink.example/${{ item }}"}}
    inside = {name: each if node is CALL else node for name, node in nodes.items()}
    return {"uses": "map", "with": {"items": items}, "nodes": inside, **more}


def paid(bench: Bench) -> None:
    """A payment comes, and time goes on."""
    with contextlib.suppress(LookupError):
        bench.deliver("bank", "paid", {"order": 7})
    bench.finish()


def decided(bench: Bench) -> None:
    """Whoever was asked says yes."""
    for run in bench.runs:
        bench.decide(run, "a", data={"limit": 3})


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
    "event": ([workflow(nodes={"a": WAIT, "b": {**CALL, "needs": ["a"]}})], {}, paid),
    "event that came before": ([workflow(nodes={"nap": NAP, "a": {**WAIT, "needs": ["nap"]}})], {}, paid),
    "approval": (
        [workflow(nodes={"a": {"uses": "wait.approval"}, "b": {**CALL, "needs": ["a"]}})],
        {},
        decided,
    ),
    "timeout": (
        [workflow(nodes={"a": {"uses": "wait.approval", "with": {"timeout": "1h", "on_timeout": "complete"}}})],
        {},
        Bench.finish,
    ),
    "map": (
        [workflow(nodes={"m": mapped({"a": CALL, "b": {**NAP, "needs": ["a"]}}, concurrency=2)})],
        {},
        Bench.finish,
    ),
    "map of maps over a large output": (
        [
            workflow(
                nodes={
                    "large": CALL,
                    "m": mapped(
                        {
                            "inner": mapped({"a": CALL}, items="${{ nodes.large.output.list }}", needs=[]),
                            "after": {"uses": "transform", "needs": ["inner"], "with": {"value": "${{ item }}"}},
                        },
                        needs=["large"],
                    ),
                }
            )
        ],
        {"large": {"list": [1, 2], "pad": "x" * 100_000}},
        Bench.finish,
    ),
    "map with failures": (
        [workflow(nodes={"m": mapped({"a": CALL}, failures="any")})],
        {"a": refuse_two},
        Bench.finish,
    ),
    "model": (
        [
            workflow(
                nodes={
                    "a": {"uses": "llm.chat", "with": {"endpoint": "llm", "model": "m", "prompt": "hi"}},
                    "b": {"uses": "search.web", "needs": ["a"], "with": {"endpoint": "find", "query": "x"}},
                }
            )
        ],
        {"llm.chat": {"text": "hello"}, "search.web": {"results": []}},
        Bench.finish,
    ),
    "compensation": (
        [
            workflow(
                nodes={
                    "a": {**CALL, "compensate": {**CALL, "with": {"url": "http://undo.example/a"}}},
                    "b": {**CALL, "needs": ["a"], "compensate": {**CALL, "with": {"url": "http://undo.example/b"}}},
                    "c": {**CALL, "needs": ["b"]},
                },
                on_error=CALL,
            )
        ],
        {"c": refuse},
        Bench.finish,
    ),
    "child that fails": (
        [
            workflow(nodes={"a": {"uses": "workflow.run", "with": {"workflow": "child"}}}),
            workflow("child", on=[], nodes={"x": {"uses": "fail", "with": {"message": "no"}}}),
        ],
        {},
        Bench.finish,
    ),
    "catch": (
        [
            workflow(
                nodes={
                    "a": CALL,
                    "b": {**CALL, "needs": ["a"], "when": "failed"},
                    "c": {**CALL, "needs": ["a", "b"], "when": "always"},
                }
            )
        ],
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


def test_compensations_come_in_reverse_order_and_before_on_error() -> None:
    documents, stubs, _ = CASES["compensation"]
    bench = Bench(documents, stubs={"http.request": answer, **stubs})
    run = bench.deliver(*EVENT)
    assert run.status == "failed"
    assert [call.node for call in bench.calls] == ["a", "b", "c", "b!undo", "a!undo", "!on_error"]


def test_a_decision_that_comes_while_a_run_is_being_undone_changes_nothing() -> None:
    nodes = {
        "a": {**CALL, "compensate": {**CALL, "retry": {"max_attempts": 2, "first": "1h", "on": ["http_4xx"]}}},
        "boss": {"uses": "wait.approval"},
        "b": {**CALL, "needs": ["boss"]},
    }
    bench = Bench([workflow(nodes=nodes)], stubs={"a": answer, "a!undo": [NodeError("http_4xx", "no"), 1], "b": 1})
    run = bench.deliver(*EVENT)
    bench.cancel(run)
    run = bench.decide(run, "boss")
    bench.finish()
    run = bench.result(run)
    assert run.status == "cancelled"
    assert "boss" not in run.outputs
