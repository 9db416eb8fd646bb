"""Every workflow that the project shows or runs goes through the crash matrix, and so does every built-in node type.

They are found by looking: a new example fails here until it is said which event it is to be tried with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.engine.registry import Registry
from executor.testing import Bench, crash_matrix
from executor.workflow.controls import CONTROLS
from executor.workflow.graph import load_yaml
from tests.unit.testing.test_matrix import CASES

ROOT = Path(__file__).parents[3]
FILES = ("executor/demo/demo.yaml", "executor/demo/dev.yaml", "tests/faultrun/workflows.yaml")
PAGES = ("README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md"))))


def answer(inputs: dict[str, Any]) -> dict[str, Any]:
    body = {"name": "Ada", "id": "ch_1", "risk": 0.1 if "small" in inputs["url"] else 0.9, "url": inputs["url"]}
    return {"status": 200, "headers": {}, "body": body}


STUBS = {"http.request": answer, "webhook.deliver": {"status": 200, "id": "msg"}}


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, the document) of every workflow in the examples."""
    for file in FILES:
        yield from ((file, document) for document in load_yaml((ROOT / file).read_text()) if "workflow" in document)
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE):
            yield from ((page, document) for document in load_yaml(block) if "workflow" in document)


EXAMPLES = {f"{where}:{document['workflow']}": document for where, document in documents()}


def approved(bench: Bench) -> None:
    """The order is approved, its first parcel arrives, and the second never does."""
    for run in bench.runs:
        bench.decide(run, "approval")
    bench.deliver("post", "parcel.arrived", {"parcel": "p1"})
    bench.finish()


ORDER = {"amount": 1200, "order": "o1", "parcels": [{"id": "p1"}, {"id": "p2"}]}
REFUND = {"workflow": "asks", "on": [{"source": "desk"}]} | {
    "nodes": {"ask": {"uses": "workflow.run", "with": {"workflow": "refund", "input": {"charge": "ch_1"}}}}
}
HELPED = {"workflow": "asks", "on": [{"source": "desk"}]} | {
    "nodes": {"ask": {"uses": "workflow.run", "with": {"workflow": "helper", "input": {"number": 1}}}}
}
Trial = tuple[tuple[str, str, Any], list[dict[str, Any]], Callable[[Bench], None], str]
TRIALS: dict[str, list[Trial]] = {
    # By the place of an example: event, further workflows, what happens then, and how the (first) run ends.
    "executor/demo/demo.yaml:order-paid": [
        (("shop", "order.paid", {"amount": 1200, "order": 1, "customer": 2}), [], Bench.finish, "completed")
    ],
    "executor/demo/demo.yaml:order-count": [
        (("shop", "order.paid", {"amount": 1, "order": 1}), [], Bench.finish, "completed")
    ],
    "executor/demo/demo.yaml:repository-activity": [(("github", "push", {}), [], Bench.finish, "completed")],
    "executor/demo/demo.yaml:payment": [
        (("stripe", "invoice.paid", {"data": {"object": {"id": "in_1"}}}), [], Bench.finish, "completed")
    ],
    "executor/demo/dev.yaml:greet": [(("hello", "any", {"name": "Ada"}), [], Bench.finish, "completed")],
    "executor/demo/dev.yaml:pull-request": [
        (
            (
                "github",
                "pull_request.opened",
                {"pull_request": {"title": "t", "additions": lines, "deletions": 1}, "sender": {"login": "ada"}},
            ),
            [],
            Bench.finish,
            "completed",
        )
        for lines in (1, 1000)
    ],
    "tests/faultrun/workflows.yaml:chain": [(("hub", "push", {"number": 1}), [], Bench.finish, "completed")],
    "tests/faultrun/workflows.yaml:fan": [(("hub", "push", {"number": 1}), [], Bench.finish, "completed")],
    "tests/faultrun/workflows.yaml:mixed": [
        (("hub", "push", {"number": 1}), [EXAMPLES["tests/faultrun/workflows.yaml:helper"]], Bench.finish, "completed")
    ],
    "tests/faultrun/workflows.yaml:helper": [(("desk", "any", {}), [HELPED], Bench.finish, "completed")],
    "tests/faultrun/workflows.yaml:keyed": [(("hub", "push", {"number": 1}), [], Bench.finish, "completed")],
    "README.md:hello-again": [(("hello", "any", {"name": "Ada"}), [], Bench.finish, "completed")],
    "docs/workflows.md:order-paid": [
        (("shop", "order.new", ORDER | {"customer": "small"}), [], Bench.finish, "completed"),  # an apology
        (("shop", "order.new", ORDER | {"customer": "big"}), [], Bench.finish, "completed"),  # nobody approves
        (("shop", "order.new", ORDER | {"customer": "big"}), [], approved, "completed"),
    ],
    "docs/workflows.md:weekly-report": [
        (
            ("schedule", "weekly-report", {"scheduled_for": "2026-11-23T07:00:00+01:00"}),
            [],
            Bench.finish,
            "completed",
        )
    ],
    "docs/workflows.md:sync-customer": [
        (("crm", "customer.changed", {"customer": {"id": 7}}), [], Bench.finish, "completed")
    ],
    "docs/workflows.md:index-documents": [
        (("docs", "document.saved", {"space": "wiki"}), [], Bench.finish, "completed")
    ],
    "docs/workflows.md:enrich": [(("shop", "order.new", {"customer": "small"}), [], Bench.finish, "completed")],
    "docs/workflows.md:refund": [(("desk", "any", {}), [REFUND], Bench.finish, "completed")],
}


def test_every_example_is_tried() -> None:
    assert set(TRIALS) == set(EXAMPLES), "an example without a trial, or a trial without its example"


@pytest.mark.parametrize(
    ("place", "trial"), [(place, trial) for place, trials in TRIALS.items() for trial in range(len(trials))]
)
def test_a_crash_at_any_commit_of_an_example_changes_nothing(place: str, trial: int) -> None:
    event, more, then, end = TRIALS[place][trial]
    all_ = [EXAMPLES[place], *more]
    bench = Bench(all_, stubs=STUBS)
    bench.deliver(*event)
    then(bench)
    assert bench.runs[0].status == end, bench.runs[0].error
    assert crash_matrix(all_, event, stubs=STUBS, then=then).points >= 2


def uses(value: Any) -> Iterator[str]:
    """The node types named anywhere in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("uses"), str):
            yield value["uses"]
        for part in value.values():
            yield from uses(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from uses(part)


def test_every_built_in_node_type_goes_through_the_matrix() -> None:
    tried = {*uses(list(EXAMPLES.values())), *uses([documents for documents, _, _ in CASES.values()])}
    assert {*dict(Registry.load(()).items()), *CONTROLS} <= tried
