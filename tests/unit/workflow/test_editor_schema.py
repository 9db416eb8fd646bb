"""The schema for editors says what the parser says, as far as shapes go, and is published as it is generated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from events.errors import ConfigError
from executor.engine.registry import Registry
from executor.workflow.editor_schema import editor_schema, encoded
from executor.workflow.graph import load_yaml, parse_workflow
from executor.workflow.parsing import WORKFLOW_KEYS
from executor.workflow.parsing_nodes import CACHE_KEYS, ENDING_KEYS, MAP_KEYS, NEEDS_KEYS, NODE_KEYS, RETRY_KEYS
from executor.workflow.parsing_triggers import TRIGGER_KEYS
from tests.unit.workflow.test_graph import ORDER_PAID
from tests.unit.workflow.test_language import WHOLE

ROOT = Path(__file__).parents[3]
SPECS = Registry.load().specs()
SCHEMA = editor_schema(SPECS)
VALIDATOR = Draft202012Validator(SCHEMA)


@pytest.mark.parametrize("path", ["docs/schema/workflow.schema.json", "executor/workflow/workflow.schema.json"])
def test_what_is_published_is_what_is_generated(path: str) -> None:
    """To write it anew: `python -m tests.unit.workflow.test_editor_schema`."""
    assert (ROOT / path).read_bytes() == encoded(SPECS)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_it_has_the_keys_that_the_parser_has() -> None:
    defs = SCHEMA["$defs"]
    assert set(SCHEMA["properties"]) == set(WORKFLOW_KEYS)
    assert set(defs["trigger"]["properties"]) == set(TRIGGER_KEYS)
    assert set(defs["step"]["properties"]) == {*NODE_KEYS, *MAP_KEYS}
    assert set(defs["ending"]["properties"]) == set(ENDING_KEYS)
    assert set(defs["retry"]["properties"]) == set(RETRY_KEYS)
    assert set(defs["cache"]["properties"]) == set(CACHE_KEYS)
    assert set(defs["needs"]["else"]["properties"]) == set(NEEDS_KEYS)


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for text in (ORDER_PAID.replace(', attempts: "${{ event.body.n }}"', ""), WHOLE):
        yield from ((document["workflow"], document) for document in load_yaml(text))
    for file in sorted([*ROOT.glob("executor/demo/*.yaml"), *ROOT.glob("examples/**/*.yaml")]):
        for document in load_yaml(file.read_text()):
            if "workflow" in document:
                yield f"{file.name}:{document['workflow']}", document
    for file in sorted(ROOT.glob("docs/*.md")):
        for block in file.read_text().split("```yaml\n")[1:]:
            if block.startswith("workflow:"):
                for document in load_yaml(block.split("```")[0]):
                    yield f"{file.name}:{document['workflow']}", document


@pytest.mark.parametrize(("name", "document"), [pytest.param(*found, id=found[0]) for found in documents()])
def test_it_lets_through_what_the_parser_takes(name: str, document: dict[str, Any]) -> None:
    parse_workflow(document)
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)] == []


def node(**values: Any) -> dict[str, Any]:
    return {"workflow": "w", "nodes": {"a": {"uses": "transform", "with": {"value": 1}}, "b": values}}


EVENT = {"source": "s", "match": "event.id == run.id"}
HTTP = {"uses": "http.request", "with": {"url": "u"}}
BODY = {"c": {"uses": "fail", "with": {"message": "no"}}}
MAP = {"uses": "map", "with": {"items": "${{ event.body }}"}, "nodes": BODY}


@pytest.mark.parametrize(
    "document",
    [
        {"workflow": "w"},
        {"nodes": {}},
        {"workflow": "1", "nodes": BODY},
        {"workflow": "w", "nodes": BODY, "queue": "fast"},
        {"workflow": "w", "nodes": BODY, "timeout": "soon"},
        {"workflow": "w", "nodes": BODY, "timeout": 0},
        {"workflow": "w", "nodes": BODY, "extra": 1},
        {"workflow": "w", "nodes": BODY, "on": {}},
        {"workflow": "w", "nodes": BODY, "on": [{"type": "x"}]},
        {"workflow": "w", "nodes": BODY, "on": [{"source": "schedule"}]},
        {"workflow": "w", "nodes": BODY, "on": [{"source": "s", "tz": "UTC"}]},
        {"workflow": "w", "nodes": BODY, "on": [{"schedule": "* * * * *", "source": "s"}]},
        {"workflow": "w", "nodes": BODY, "on": [{"schedule": "* * * *"}]},
        {"workflow": "w", "nodes": BODY, "on": [{"schedule": "* * * * *", "catch_up": "some"}]},
        {"workflow": "w", "nodes": BODY, "input": []},
        {"workflow": "w", "nodes": BODY, "on_error": {"uses": "map"}},
        {"workflow": "w", "nodes": BODY, "on_error": {"uses": "fail", "with": {"message": "no"}, "needs": []}},
        {"workflow": "w", "nodes": {"1": {"uses": "transform", "with": {"value": 1}}}},
        node(),
        node(uses="transform"),
        node(uses="transform", **{"with": {"valeu": 1}}),
        node(uses="http.request", **{"with": {"url": 3}}),
        node(uses="http.request", **{"with": {"url": "u", "headers": {"a": 1}}}),
        node(uses="http.request", **{"with": {"url": "u", "method": "FETCH"}}),
        node(uses="wait.timer"),
        node(uses="wait.timer", **{"with": {"for": 1, "until": 2}}),
        node(uses="wait.timer", **{"with": {"for": "soon"}}),
        node(uses="wait.event", **{"with": {**EVENT, "source": "${{ run.id }}"}}),
        node(uses="wait.event", **{"with": {**EVENT, "on_timeout": "x"}}),
        node(uses="map", **{"with": {"items": []}}),
        node(**{**MAP, "with": {"items": 3}}),
        node(**MAP, concurrency=0),
        node(**MAP, failures="some"),
        node(**{**MAP, "nodes": {"c": {**BODY["c"], "compensate": BODY["c"]}}}),
        node(**BODY["c"], collect=1),
        node(**BODY["c"], needs="a"),
        node(**BODY["c"], needs={"any": []}),
        node(**BODY["c"], needs={"at_least": 1}),
        node(**BODY["c"], when="later"),
        node(**BODY["c"], retry={"max_attempts": 0}),
        node(**BODY["c"], compensate={"uses": "wait.timer", "with": {"for": 1}}),
        node(**MAP, cache={"ttl": "1m"}),
        node(**BODY["c"], cache={"ttl": "1m"}),
        node(**HTTP, cache={}),
        node(**HTTP, cache="10m"),
        node(**HTTP, cache={"ttl": 0}),
        node(**HTTP, cache={"ttl": "1m", "for": "1m"}),
        node(**HTTP, cache={"ttl": "1m", "key": ""}),
        node(**BODY["c"], **{"if": True}),
    ],
)
def test_both_refuse_what_is_wrong_by_its_shape(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse_workflow(document, SPECS)
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize(
    "document",
    [
        node(uses="http.request", **{"with": {"url": "u", "headers": {"a": "x", "b": "${{ 1 }}"}, "expect": [200]}}),
        node(uses="http.request", **{"with": {"url": "u", "expect": ["${{ 200 }}"]}}),
        node(uses="wait.timer", **{"with": {"for": "${{ event.body.seconds }}"}}),
        node(uses="wait.timer", **{"with": {"for": "1h30m"}}),
        node(uses="wait.event", **{"with": EVENT}),
        node(**MAP, failures="any", compensate=BODY["c"]),
        node(**HTTP, cache={"ttl": "10m", "key": "event.body.id", "stale": "1h"}),
    ],
)
def test_both_take_what_is_right(document: dict[str, Any]) -> None:
    parse_workflow(document, SPECS)
    assert VALIDATOR.is_valid(document)


def test_types_of_ones_own_are_described_and_others_let_through() -> None:
    class Own(msgspec.Struct, forbid_unknown_fields=True):
        email: str

    spec = msgspec.structs.replace(SPECS["transform"], uses="crm.lookup", inputs=Own)
    validator = Draft202012Validator(editor_schema({**SPECS, "crm.lookup": spec}))
    assert validator.is_valid(node(uses="crm.lookup", **{"with": {"email": "e"}}))
    assert not validator.is_valid(node(uses="crm.lookup", **{"with": {"email": 1}}))
    assert VALIDATOR.is_valid(node(uses="crm.lookup", **{"with": {"email": 1}}))


if __name__ == "__main__":
    for published in ("docs/schema", "executor/workflow"):
        (ROOT / published).mkdir(exist_ok=True)
        (ROOT / published / "workflow.schema.json").write_bytes(encoded(SPECS))
