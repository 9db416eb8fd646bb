"""A delivery starts the workflows that want it, and a workflow that a condition kept back says why."""

from __future__ import annotations

from typing import Any

import pytest

from executor.workflow.graph import Graph, compile_workflow, content_hash, parse_workflow
from executor.workflow.triggers import PassedOver, Triggers


def workflow(name: str, *on: dict[str, Any]) -> Graph:
    document = {"workflow": name, "on": list(on), "nodes": {"a": {"uses": "transform"}}}
    return compile_workflow(parse_workflow(document), content_hash(document))


def delivery(**changes: Any) -> dict[str, Any]:
    return {"source": "stripe", "type": "payment.paid", "body": {"amount": 10}, **changes}


def names(triggers: Triggers, event: dict[str, Any], only: str | None = None) -> list[str]:
    return [graph.name for graph in triggers.match(event, only).wanted]


@pytest.mark.parametrize(
    ("glob", "kind", "fits"),
    [
        (None, "payment.paid", True),
        (None, "", True),
        ("*", "", True),
        ("payment.*", "payment.paid", True),
        ("payment.*", "xpayment.paid", False),
        ("payment.p?id", "payment.paid", True),
        ("payment.[!p]*", "payment.paid", False),
        ("Payment.*", "payment.paid", False),
        ("payment", "payment.paid", False),
        ("a.b", "aXb", False),
    ],
)
def test_the_type_is_a_glob(glob: str | None, kind: str, fits: bool) -> None:
    trigger = {"source": "stripe"} if glob is None else {"source": "stripe", "type": glob}
    assert names(Triggers([workflow("w", trigger)]), delivery(type=kind)) == ["w"] * fits


def test_only_workflows_of_the_source_are_considered() -> None:
    triggers = Triggers([workflow("one", {"source": "stripe"}), workflow("two", {"source": "github"}), workflow("no")])
    assert names(triggers, delivery()) == ["one"]
    assert names(triggers, delivery(source="github")) == ["two"]
    assert names(triggers, delivery(source="other")) == []


def test_several_workflows_start_in_order_and_each_once() -> None:
    both = workflow("both", {"source": "stripe"}, {"source": "stripe", "type": "payment.*"})
    triggers = Triggers([both, workflow("other", {"source": "stripe"})])
    assert names(triggers, delivery()) == ["both", "other"]
    assert names(triggers, delivery(), only="other") == ["other"]
    assert names(triggers, delivery(), only="gone") == []


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("event.body.amount > 10", "if was false: event.body.amount > 10"),
        (
            "event.body.x > 1",
            "if failed: event.body.x > 1: expected a value at event.body.x, got no such key 'x' in event.body",
        ),
        ("event.body.amount", "if failed: event.body.amount: expected true or false, got 10"),
    ],
)
def test_a_condition_that_keeps_a_delivery_back_is_told(condition: str, reason: str) -> None:
    triggers = Triggers([workflow("w", {"source": "stripe", "if": condition})])
    match = triggers.match(delivery())
    assert match.wanted == ()
    assert match.passed_over == (PassedOver("w", reason),)


def test_a_type_that_does_not_fit_is_not_worth_telling() -> None:
    match = Triggers([workflow("w", {"source": "stripe", "type": "other"})]).match(delivery())
    assert (match.wanted, match.passed_over) == ((), ())


def test_one_trigger_that_fits_is_enough() -> None:
    triggers = Triggers(
        [
            workflow(
                "w",
                {"source": "stripe", "if": "event.body.x"},
                {"source": "stripe", "if": "event.body.amount == 10"},
            )
        ]
    )
    match = triggers.match(delivery())
    assert [graph.name for graph in match.wanted] == ["w"]
    assert match.passed_over == ()
