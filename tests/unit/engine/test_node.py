"""An attempt comes to an outcome whatever the node does; only the engine's own cancellation passes."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from executor import NodeContext, node
from executor.engine import node as node_module
from executor.engine.node import execute
from executor.engine.processes import KillablePool
from executor.engine.registry import Registry, node_type
from executor.workflow.outcomes import Completed, Failed, Outcome
from tests.unit.engine import sample_nodes

pytestmark = pytest.mark.anyio
RUN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
LONG = 60.0


def context(attempt: int = 1, node: str = "step") -> NodeContext:
    return NodeContext(RUN, "orders", node, attempt, 0.0)


async def attempt(uses: str, inputs: Any, seconds: float = LONG) -> Outcome:
    registry = Registry.load([sample_nodes.__name__])
    return await execute(registry[uses], context(), inputs, seconds, KillablePool(1))


async def test_a_result_is_what_json_carries() -> None:
    assert await attempt("sample.customer", {"email": "ann@b.example"}) == Completed({"name": "ann", "tags": ["seen"]})


async def test_a_default_is_not_shared_between_calls() -> None:
    first = await attempt("sample.customer", {"email": "ann@b.example"})
    assert await attempt("sample.customer", {"email": "ann@b.example"}) == first


@pytest.mark.parametrize("inputs", [{}, {"email": 7}, {"email": "a@b", "more": 1}, None])
async def test_inputs_that_do_not_fit_fail_as_input(inputs: Any) -> None:
    outcome = await attempt("sample.customer", inputs)
    assert isinstance(outcome, Failed)
    assert outcome.kind == "input"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("node", Failed("quota", "no more today", 60.0)),
        ("group", Failed("quota", "no more today", 60.0)),
        ("timeout", Failed("timeout", "TimeoutError: the other side")),
        ("connection", Failed("connection", "ConnectionResetError: by peer")),
        ("exit", Failed("error", "SystemExit: 3")),
        ("cancel", Failed("error", "sample.raise: the call was cancelled, by itself or with its run")),
    ],
)
async def test_every_exception_has_its_kind(kind: str, expected: Failed) -> None:
    assert await attempt("sample.raise", {"kind": kind}) == expected


async def test_a_message_is_capped() -> None:
    outcome = await attempt("sample.raise", {"kind": "other"})
    assert isinstance(outcome, Failed)
    assert (outcome.kind, len(outcome.message)) == ("error", 2_000)


async def test_a_message_has_nothing_that_a_store_refuses() -> None:
    assert node_module.failure(ValueError("a\0b\ud800c")).message == "ValueError: a\ufffdb?c"


@pytest.mark.parametrize(("uses", "inputs"), [("sample.object", {}), ("sample.give", {"value": "\ud800"})])
async def test_an_output_that_json_cannot_carry_is_an_error(uses: str, inputs: Any) -> None:
    outcome = await attempt(uses, inputs)
    assert isinstance(outcome, Failed)
    assert outcome.kind == "error"
    assert "expected JSON-like" in outcome.message


async def test_an_output_over_the_limit_is_an_error_that_says_so() -> None:
    at_limit = "x" * (node_module.OUTPUT_LIMIT - 2)
    assert await attempt("sample.give", {"value": at_limit}) == Completed(at_limit, node_module.OUTPUT_LIMIT)
    outcome = await attempt("sample.give", {"value": at_limit + "x"})
    assert isinstance(outcome, Failed)
    assert "expected at most 5,242,880" in outcome.message


async def test_a_node_is_cancelled_at_its_timeout() -> None:
    cleaned = asyncio.Event()

    @node("waits")
    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    outcome = await execute(node_type(waits), context(), {}, 0.01, KillablePool(1))
    assert isinstance(outcome, Failed)
    assert (outcome.kind, cleaned.is_set()) == ("timeout", True)


async def test_a_node_that_swallows_cancellation_does_not_hold_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_module, "GRACE", 0.01)
    release, ended = asyncio.Event(), asyncio.Event()

    @node("stubborn")
    async def stubborn() -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        ended.set()
        return "late"

    flying: set[asyncio.Task[Any]] = set()
    with capture_logs() as logs:
        outcome = await execute(node_type(stubborn), context(), {}, 0.01, KillablePool(1), flying)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, ended.is_set()) == ("timeout", False)
    assert [(entry["event"], entry["uses"]) for entry in logs] == [
        ("node ignores its cancellation and is left behind", "stubborn")
    ]
    release.set()
    await ended.wait()
    assert not flying


async def test_the_engines_cancellation_reaches_the_node_and_passes_through() -> None:
    started, cleaned = asyncio.Event(), asyncio.Event()

    @node("waits")
    async def waits() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    task = asyncio.create_task(execute(node_type(waits), context(), {}, LONG, KillablePool(1)))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()


def test_the_idempotency_key_is_the_same_on_every_attempt_and_another_for_another_node() -> None:
    assert context(1).idempotency_key == context(5).idempotency_key
    assert context(node="step").idempotency_key != context(node="other").idempotency_key
    assert "." not in context(node="a.b").idempotency_key  # signatures join with dots
