"""What is to be done next: given a graph and what happened, then the plan."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.workflow.backoff import Backoff
from executor.workflow.facts import (
    NodeCompleted,
    NodeDeferred,
    NodeFailed,
    NodeSkipped,
    RunCompleted,
    RunFact,
    RunFailed,
    RunStarted,
    decode,
    encode,
)
from executor.workflow.graph import Graph, compile_workflow, parse_workflow
from executor.workflow.outcomes import Completed, Deferred, Failed
from executor.workflow.plan import End, Go, Note, plan
from executor.workflow.state import Broken, Done, Retrying, RunState, evolve
from executor.workflow.verdict import DEFERRAL, MOST_DEFERRALS, judge

RUN = UUID(int=7)
NOW = 1000.0


def graph_of(needs: dict[str, list[str]], timeout: float | None = None) -> Graph:
    nodes: dict[str, Any] = {name: {"uses": "x", "needs": before} for name, before in needs.items()}
    document: dict[str, Any] = {"workflow": "w", "on": [{"source": "s"}], "nodes": nodes}
    if timeout is not None:
        document["timeout"] = timeout
    return compile_workflow(parse_workflow(document), b"hash")


def after(*facts: RunFact) -> RunState:
    state = evolve(None, RunStarted("w", "00", RUN, NOW))
    for fact in facts:
        state = evolve(state, fact)
    return state


def done(node: str) -> NodeCompleted:
    return NodeCompleted(node, 1, None)


def broken(node: str) -> NodeFailed:
    return NodeFailed(node, 1, "error", "no")


DIAMOND = graph_of({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ((), Go(("a",), None)),
        ((done("a"),), Go(("b", "c"), None)),
        ((done("a"), done("b")), Go(("c",), None)),
        ((done("a"), done("b"), done("c")), Go(("d",), None)),
        ((done("a"), done("b"), done("c"), done("d")), End(RunCompleted())),
        (
            (broken("a"),),
            Note((NodeSkipped("b", "needs a, which failed", True), NodeSkipped("c", "needs a, which failed", True))),
        ),
        (
            (done("a"), NodeSkipped("b", "if"), done("c")),
            Note((NodeSkipped("d", "needs b, which was skipped"),)),
        ),
        ((done("a"), broken("b")), Note((NodeSkipped("d", "needs b, which failed", True),))),
        ((done("a"), broken("b"), NodeSkipped("d", "b")), Go(("c",), None)),
        ((done("a"), broken("b"), NodeSkipped("d", "b"), done("c")), End(RunFailed("b: error: no"))),
        (
            (NodeSkipped("a", "if"), NodeSkipped("b", "a"), NodeSkipped("c", "a"), NodeSkipped("d", "b")),
            End(RunCompleted()),
        ),
    ],
)
def test_given_what_happened_then_the_plan(facts: tuple[RunFact, ...], expected: Note | Go | End) -> None:
    assert plan(DIAMOND, after(*facts), NOW) == expected


def test_what_runs_is_not_started_again() -> None:
    assert plan(DIAMOND, after(done("a")), NOW, {"b"}) == Go(("c",), None)
    assert plan(DIAMOND, after(done("a")), NOW, {"b", "c"}) == Go((), None)


def test_a_retry_waits_for_its_time() -> None:
    state = after(NodeFailed("a", 1, "timeout", "late", retry_at=NOW + 5))
    assert plan(DIAMOND, state, NOW) == Go((), NOW + 5)
    assert plan(DIAMOND, state, NOW + 5) == Go(("a",), None)


def test_the_runs_timeout_ends_it_and_wakes_it() -> None:
    graph = graph_of({"a": []}, timeout=60)
    state = after(NodeFailed("a", 1, "timeout", "late", retry_at=NOW + 500))
    assert plan(graph, state, NOW) == Go((), NOW + 60)
    assert plan(graph, state, NOW + 60) == End(RunFailed("the run's timeout of 60 s has passed"))


def test_the_verdict_retries_within_the_policy_and_no_further() -> None:
    document = {
        "workflow": "w",
        "on": [{"source": "s"}],
        "nodes": {
            "a": {
                "uses": "x",
                "retry": {"max_attempts": 3, "first": "2s", "factor": 2, "max": "1m", "on": ["timeout"]},
            }
        },
    }
    node = compile_workflow(parse_workflow(document), b"h").nodes["a"]
    first = judge(node, node.name, RUN, 1, Failed("timeout", "late"), now=NOW, seconds=0.1)
    assert isinstance(first, NodeFailed)
    assert first.retry_at is not None
    assert NOW + 1 <= first.retry_at <= NOW + 2
    asked = judge(node, node.name, RUN, 1, Failed("timeout", "late", retry_after=90.0), now=NOW, seconds=0.1)
    assert asked.retry_at == NOW + 90, "the other side's wish counts when it is longer"  # type: ignore[union-attr]
    assert judge(node, node.name, RUN, 3, Failed("timeout", "late"), now=NOW, seconds=0.1) == NodeFailed(
        "a", 3, "timeout", "late", None, 0.1
    )
    assert judge(node, node.name, RUN, 1, Failed("error", "no"), now=NOW, seconds=0.1).retry_at is None  # type: ignore[union-attr]
    assert judge(node, node.name, RUN, 2, Completed({"x": 1}), now=NOW, seconds=0.1) == NodeCompleted(
        "a", 2, {"x": 1}, 0.1
    )


def test_what_is_put_off_waits_and_its_attempt_does_not_count() -> None:
    failed = NodeFailed("a", 1, "timeout", "late", retry_at=NOW)
    state = after(failed, NodeDeferred("a", 2, "busy", NOW + 5, 3))
    assert state.nodes["a"] == Retrying(1, NOW + 5, 3)
    assert plan(DIAMOND, state, NOW) == Go((), NOW + 5)
    assert plan(DIAMOND, state, NOW + 5) == Go(("a",), None)
    assert evolve(state, failed).nodes["a"] == Retrying(1, NOW, 0), "a failure ends the row"
    fact = NodeDeferred("a", 2, "busy", NOW + 5, 3)
    assert decode(*encode(fact)) == fact


def test_the_verdict_puts_off_for_as_long_as_was_asked_but_not_for_ever() -> None:
    node = DIAMOND.nodes["a"]
    asked = judge(node, "a", RUN, 1, Deferred("busy", 90.0), now=NOW, seconds=0.1)
    assert asked == NodeDeferred("a", 1, "busy", NOW + 90, 1)
    later = judge(node, "a", RUN, 1, Deferred("busy", 0.0), now=NOW, seconds=0.1, deferred=MOST_DEFERRALS - 1)
    assert isinstance(later, NodeDeferred)
    assert later.until >= NOW + DEFERRAL.max / 2, "who asks for no wait is asked ever more rarely"
    last = judge(node, "a", RUN, 1, Deferred("busy", 5.0), now=NOW, seconds=0.1, deferred=MOST_DEFERRALS)
    assert isinstance(last, NodeFailed)
    assert (last.kind, last.attempt) == ("deferred", 1)


@given(st.integers(1, 10_000), st.binary(max_size=20))
def test_backoff_grows_within_its_bounds_and_is_repeatable(attempt: int, seed: bytes) -> None:
    schedule = Backoff(first=1.0, factor=2.0, max=300.0, jitter=0.5)
    delay = schedule.delay(attempt, seed)
    whole = min(300.0, 2.0 ** min(attempt - 1, 60))
    assert whole / 2 <= delay <= whole
    assert delay == schedule.delay(attempt, seed)


OUTCOMES = st.lists(st.sampled_from(["done", "retry", "broken"]), min_size=30, max_size=30)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = [f"n{number}" for number in range(draw(st.integers(1, 7)))]
    return graph_of(
        {name: sorted(draw(st.sets(st.sampled_from(names[:at])))) if at else [] for at, name in enumerate(names)}
    )


@settings(max_examples=200)
@given(graphs(), OUTCOMES)
def test_every_run_ends_and_its_fold_is_its_history(graph: Graph, outcomes: list[str]) -> None:
    """Whatever the nodes do: the run ends, nothing starts before what it needs, nothing done starts again, and folding
    the history from the log, from any prefix's state on, gives the same state."""
    history: list[RunFact] = [RunStarted("w", "00", RUN, NOW)]
    state, now, script = after(), NOW, iter(outcomes)
    for _ in range(500):
        match plan(graph, state, now):
            case Note(facts):
                news: list[RunFact] = list(facts)
            case End(end):
                history.append(end)
                evolve(state, end)
                break
            case Go((), wake):
                assert wake is not None, "nothing to do, nothing to wait for, and not at its end"
                now = wake
                continue
            case Go(start, _):
                name = start[0]
                assert all(isinstance(state.nodes.get(need), Done) for need in graph.nodes[name].needs)
                assert not isinstance(state.nodes.get(name), Done | Broken)
                outcome = next(script, "done")
                retry = now + 1 if outcome == "retry" else None
                news = [done(name) if outcome == "done" else NodeFailed(name, 1, "error", "no", retry)]
        for fact in news:
            history.append(fact)
            evolve(state, fact)
    else:
        raise AssertionError("it never ends")
    logged = [decode(*encode(fact)) for fact in history]
    for cut in range(1, len(logged)):
        folded = None
        for fact in logged[:cut]:
            folded = evolve(folded, fact)
        for fact in logged[cut:]:
            folded = evolve(folded, fact)
        assert folded == state
