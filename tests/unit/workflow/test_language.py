"""The keys of the graph language beyond the plain graph: what they become, and what is told of them when they are wrong."""

# ruff: noqa: E501 - a fault is read on one line
from __future__ import annotations

from typing import Any

import msgspec
import pytest

from events.errors import ConfigError
from executor.workflow.graph import Workflow, compile_workflow, load_yaml, parse_workflow
from executor.workflow.inputs import input_faults, schema_faults

WHOLE = """
workflow: orders
on: [{source: shop}, {source: emit, type: order.*}]
input:
  type: object
  properties: {id: {type: string}}
nodes:
  list: {uses: x}
  left: {uses: x, if: "false"}
  each:
    uses: map
    needs: {all: [list], any: [left]}
    with: {items: "${{ nodes.list.output }}"}
    concurrency: 3
    failures: any
    collect: {id: "${{ item.id }}", at: "${{ index }}", tags: "${{ nodes.tags.output }}"}
    nodes:
      charge: {uses: x, with: {v: "${{ item.id }} ${{ nodes.list.output.name }}"}}
      tags:
        uses: map
        needs: [charge]
        with: {items: "${{ nodes.charge.output }}"}
        nodes:
          tag: {uses: x, with: {v: "${{ item }} ${{ nodes.charge.output }} ${{ nodes.list.output }}"}}
    compensate: {uses: y, with: {v: "${{ nodes.each.output }} ${{ nodes.list.output }} ${{ error }}"}, timeout: 5s}
  paid:
    uses: wait.event
    needs: {any: [list, left, each], at_least: 2}
    with: {source: bank, match: "event.body.id == input.id && trigger.type != ''", timeout: 1h}
  alarm: {uses: x, needs: [paid], when: failed}
  tidy: {uses: x, needs: [paid, alarm], when: always}
on_error: {uses: y, with: {v: "${{ error }} ${{ nodes.tidy.output }}"}, retry: {max_attempts: 2}}
output: {each: "${{ nodes.each.output }}", given: "${{ input.id }}"}
"""


def read(text: str) -> Workflow:
    (document,) = load_yaml(text)
    return parse_workflow(document)


def faults(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_workflow({"workflow": "w", "nodes": {"a": {"uses": "x"}}, **changes})
    return caught.value.faults


def of_node(**node: Any) -> list[str]:
    return faults(nodes={"a": {"uses": "x"}, "b": {"uses": "x", **node}})


def test_all_keys_become_a_workflow() -> None:
    made = read(WHOLE)
    each, paid = made.nodes["each"], made.nodes["paid"]
    assert (each.needs, each.any, each.at_least) == (("list",), ("left",), 1)
    assert (paid.needs, paid.any, paid.at_least) == ((), ("list", "left", "each"), 2)
    assert (made.nodes["alarm"].when, made.nodes["tidy"].when, paid.when) == ("failed", "always", "succeeded")
    assert each.body is not None
    assert (each.body.concurrency, each.body.failures) == (3, None)
    assert set(each.body.nodes) == {"charge", "tags"}
    inner = each.body.nodes["tags"].body
    assert inner is not None
    assert (inner.concurrency, inner.failures, inner.collect) == (10, 0, msgspec.UNSET)
    assert each.undo is not None
    assert (each.undo.name, each.undo.uses, each.undo.timeout) == ("each!undo", "y", 5.0)
    assert made.on_error is not None
    assert made.on_error.retry is not None
    assert (made.on_error.name, made.on_error.retry.max_attempts) == ("!on_error", 2)
    graph = compile_workflow(made, b"h")
    assert graph.at("each!undo").uses == "y"
    assert graph.at("each[3].tags[0].tag").name == "tag"
    assert graph.at("!on_error").uses == "y"
    assert graph.output is not None
    assert graph.nodes["paid"].match is not None


@pytest.mark.parametrize(
    ("needs", "fault"),
    [
        ({"at_least": 1}, "needs.at_least: expected it only with any, got it without"),
        ({"any": []}, "needs.any: expected at least one node, got none"),
        ({"any": ["a"], "at_least": 2}, "needs.at_least: expected a whole number from 1 to 1, got 2"),
        ({"any": ["a"], "at_least": 0}, "needs.at_least: expected a whole number from 1 to 1, got 0"),
        ({"any": ["a"], "all": ["a"]}, "needs.any[0]: expected each once, got 'a' among all too"),
        ({"any": ["c"]}, "needs.any[0]: expected a node, got 'c'"),
        ({"some": ["a"]}, "needs.some: expected a known key, got 'some'; there are all, any, at_least"),
        ("a", "needs: expected a list, got 'a'"),
    ],
)
def test_what_is_wrong_with_a_join_is_told(needs: Any, fault: str) -> None:
    assert of_node(needs=needs) == [f"nodes.b.{fault}"]


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        ({"when": "later"}, "when: expected one of succeeded, failed, always, got 'later'"),
        ({"nodes": {}}, "nodes: expected nodes only with uses: map, got it with x"),
        ({"failures": 1}, "failures: expected failures only with uses: map, got it with x"),
        ({"uses": "map", "with": {"items": []}}, "nodes: expected at least one node, got none"),
        ({"uses": "map", "with": {"items": 3}, "nodes": {"c": {"uses": "x"}}}, "with.items: expected a list, or an expression that gives one, got 3"),
        ({"uses": "map", "with": {"items": []}, "nodes": {"c": {"uses": "x"}}, "concurrency": 101}, "concurrency: expected a whole number from 1 to 100, got 101"),
        ({"uses": "map", "with": {"items": []}, "nodes": {"c": {"uses": "x"}}, "failures": -1}, "failures: expected how many items may fail, or any, got -1"),
        ({"uses": "map", "with": {"items": []}, "nodes": {"c": {"uses": "x", "compensate": {"uses": "x"}}}}, "nodes.c.compensate: expected none inside a map: put it at the map, whose output tells what its items did, got one"),
        ({"uses": "map", "with": {"items": []}, "nodes": {"a": {"uses": "x"}}}, "nodes.a: expected a name that no node around the map has, so that expressions are clear, got 'a'"),
        ({"uses": "map", "with": {"items": []}, "nodes": {"c": {"uses": "x", "needs": ["a"]}}}, "nodes.c.needs[0]: expected a node of the same map, got 'a', which is outside: let the map need it"),
        ({"uses": "map", "with": {"items": []}, "nodes": {"c": {"uses": "x", "with": {"v": "${{ nodes.a.output }}"}}}}, "nodes.c.with: nodes.a.output: expected nodes that c needs, itself or through others, got 'a'; add it to needs"),
        ({"uses": "map", "with": {"items": []}, "nodes": {"c": {"uses": "x"}}, "collect": "${{ nodes.a.output }}"}, "collect: nodes.a.output: expected nodes that the map needs, or its own nodes, got 'a'; add it to needs"),
        ({"with": {"v": "${{ item }}"}}, "with.v: item: expected one of event, events, run, nodes, input, got 'item'"),
        ({"with": {"v": "${{ error }}"}}, "with.v: error: expected one of event, events, run, nodes, input, got 'error'"),
        ({"compensate": {"uses": "x", "needs": ["a"]}}, "compensate.needs: expected a known key, got 'needs'; there are uses, with, timeout, retry"),
        ({"compensate": {"uses": "wait.timer", "with": {"for": 1}}}, "compensate.uses: expected a node type that is done once it has run; for more, run a workflow with wait: false, got wait.timer"),
        ({"compensate": {"uses": "workflow.run", "with": {"workflow": "w"}}}, "compensate.uses: expected a node type that is done once it has run; for more, run a workflow with wait: false, got workflow.run"),
        ({"compensate": {"uses": "x", "with": {"v": "${{ nodes.a.output }}"}}}, "compensate.with: nodes.a.output: expected nodes that b needs, itself or through others, got 'a'; add it to needs"),
        ({"uses": "wait.timer"}, "with: expected one of for and until, got none"),
        ({"uses": "wait.timer", "with": {"for": "1h", "until": 1}}, "with: expected one of for and until, got both"),
        ({"uses": "wait.timer", "with": {"for": "soon"}}, "with.for: expected a duration such as 30s, 5m or 24h, up to 3660d, got 'soon'"),
        ({"uses": "wait.timer", "with": {"until": "2026-01-01T00:00:00"}}, "with.until: expected Unix seconds, or RFC 3339 with a time zone such as 2026-01-31T09:00:00+01:00, got '2026-01-01T00:00:00'"),
        ({"uses": "wait.event", "with": {"source": "s", "match": "event.id"}}, "with.match: event.id: expected something of event == something of the run (trigger, nodes, input, run), joined to the rest by &&, got no such equation"),
        ({"uses": "wait.event", "with": {"source": "s", "match": "event.id =="}}, "with.match: event.id ==: expected a value, got the end at character 12"),
        ({"uses": "wait.event", "with": {"source": "s", "match": "event.id == ${{ run.id }}"}}, "with.match: expected CEL without ${{ }}, got ${{"),
        ({"uses": "wait.event", "with": {"source": "s", "match": "event.id == nodes.a.output"}}, "with.match: event.id == nodes.a.output: expected nodes that b needs, itself or through others, got 'a'; add it to needs"),
        ({"uses": "wait.event", "with": {"source": "s", "match": "event.id == item"}}, "with.match: event.id == item: expected item only inside a map, got it outside"),
        ({"uses": "wait.event", "with": {"source": "s", "match": "event.id == trigger.bdy"}}, "with.match: event.id == trigger.bdy: expected a field of trigger, got 'bdy'; did you mean body?"),
        ({"uses": "wait.event", "with": {"source": "${{ run.id }}", "match": "event.id == run.id"}}, "with.source: expected a source's name and no expression: events are looked out for from the moment it is applied, got '${{ run.id }}'"),
        ({"uses": "wait.event", "with": {"source": "s", "match": "event.id == run.id", "look_back": "8d"}}, "with.look_back: expected a duration such as 30s, 5m or 24h, up to 7d, got '8d'"),
        ({"uses": "wait.event", "with": {"source": "s", "match": "event.id == run.id", "type": "["}}, "with.type: expected a ] for every [, got '['"),
        ({"uses": "wait.approval", "with": {"timeout": 0}}, "with.timeout: expected a duration such as 30s, 5m or 24h, up to 3660d, got 0"),
        ({"uses": "wait.approval", "with": {"on_timeout": "no"}}, "with.on_timeout: expected another value, got: Invalid enum value 'no'"),
        ({"uses": "workflow.run", "with": {"workflow": "1"}}, "with.workflow: expected a workflow's name, got '1'"),
        ({"uses": "emit"}, "with.type: expected a value, got nothing"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_node_is_told(node: dict[str, Any], fault: str) -> None:
    assert of_node(**node) == [f"nodes.b.{fault}"]


def test_nodes_that_can_never_run_are_told() -> None:
    def told(**nodes: dict[str, Any]) -> list[str]:
        return faults(nodes={name: {"uses": "x", **node} for name, node in nodes.items()})

    why = "expected a node that can run, got one that never does"
    assert told(a={"when": "failed"}) == [f"nodes.a: {why}: when: failed without needs: nothing can fail before it"]
    catcher = {"needs": ["a"], "when": "failed"}
    expected = f"nodes.c: {why}: it needs f, which runs only when something failed, and also a, completed"
    assert told(a={}, f=catcher, c={"needs": ["a", "f"]}, d={"needs": ["c"]}) == [expected]
    assert told(a={}, f=catcher, b={"needs": ["a"]}, c={"needs": ["b", "f"]}) == [expected]
    assert told(a={}, f=catcher, c={"needs": {"any": ["a", "f"], "at_least": 2}}) == [expected]
    fine: dict[str, dict[str, Any]] = {
        "a": {},
        "f": catcher,
        "c": {"needs": {"any": ["a", "f"]}},
        "d": {"needs": ["a", "f"], "when": "always"},
    }
    parse_workflow({"workflow": "w", "nodes": {name: {"uses": "x", **node} for name, node in fine.items()}})


def test_maps_stand_in_maps_three_deep_and_no_deeper() -> None:
    node: dict[str, Any] = {"uses": "x"}
    for level in range(3):
        node = {"uses": "map", "with": {"items": []}, "nodes": {f"n{level}": node}}
    parse_workflow({"workflow": "w", "nodes": {"top": node}})
    node = {"uses": "map", "with": {"items": []}, "nodes": {"n3": node}}
    text = "expected maps in maps at most 3 deep, got more; run a workflow for each item"
    assert faults(nodes={"top": node}) == [f"nodes.top.nodes.n3.nodes.n2.nodes.n1.nodes: {text}"]


def test_nodes_inside_of_maps_count() -> None:
    inner = {f"n{index}": {"uses": "x"} for index in range(1_000)}
    node = {"uses": "map", "with": {"items": []}, "nodes": inner}
    assert faults(nodes={"top": node}) == ["nodes: expected at most 1,000 nodes with those inside of maps, got 1,001"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"input": 3}, "input: expected a JSON Schema (2020-12), got 3"),
        ({"input": {"type": "strin"}}, "input: expected a JSON Schema (2020-12), got: $.type: 'strin' is not valid under any of the given schemas"),
        ({"input": {"$ref": "https://example.com/x"}}, "input: expected a JSON Schema (2020-12), got: $.$ref: expected a reference into this schema (#/$defs/…), got 'https://example.com/x'"),
        ({"input": {"$id": "https://example.com/x"}}, "input: expected a JSON Schema (2020-12), got: $.$id: expected none, got one"),
        ({"input": {"$schema": "http://json-schema.org/draft-07/schema#"}}, "input: expected a JSON Schema (2020-12), got: $.$schema: expected https://json-schema.org/draft/2020-12/schema, got 'http://json-schema.org/draft-07/schema#'"),
        ({"output": "${{ nodes.b.output }}"}, "output: nodes.b.output: expected a node, got 'b'"),
        ({"output": {"x": ["${{ error }}"]}}, "output.x[0]: error: expected one of event, events, run, nodes, input, got 'error'"),
        ({"on_error": {"uses": "x", "if": "true"}}, "on_error.if: expected a known key, got 'if'; there are uses, with, timeout, retry"),
        ({"on_error": {"uses": "map"}}, "on_error.uses: expected a node type that is done once it has run; for more, run a workflow with wait: false, got map"),
        ({"on_error": 3}, "on_error: expected keys and values, got 3"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_workflow_is_told(change: dict[str, Any], fault: str) -> None:
    assert fault in faults(**change)


def test_an_input_is_checked_without_fetching_and_without_end() -> None:
    schema = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
    assert input_faults(schema, {"id": 1}) == []
    assert input_faults(schema, {"id": "1"}) == ["$.id: '1' is not of type 'integer'"]
    assert len(input_faults({"items": {"type": "string"}}, list(range(50)))) == 10
    assert "never ends" in input_faults({"$ref": "#"}, 1)[0]
    assert "is not there" in input_faults({"$ref": "#/$defs/gone"}, 1)[0]
    assert "is not there" in input_faults({"$ref": "http://127.0.0.1:9/x"}, 1)[0]


def test_no_pattern_of_an_input_can_stall_a_worker() -> None:
    """The classic that takes a backtracking engine for ever: here it is a matter of its length."""
    schema = {"properties": {"name": {"pattern": "^(a+)+$"}}}
    assert schema_faults(schema) == []
    assert input_faults(schema, {"name": "aaa", "other": 7}) == []
    assert "does not match '^(a+)+$'" in input_faults(schema, {"name": "a" * 10_000 + "!"})[0]
    assert input_faults({"pattern": "b"}, "abc") == []  # found anywhere
    assert input_faults({"pattern": "b"}, 7) == []


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (
            {"items": {"pattern": "(?=x)"}},
            "$.items.pattern: expected a pattern of RE2's syntax, got '(?=x)': look-around",
        ),
        ({"pattern": "("}, "$.pattern: '(' is not a 'regex'"),
        ({"pattern": "(a{1000}){1000}"}, "$.pattern: expected a pattern of RE2's syntax"),
        ({"pattern": "a" * 1001}, "$.pattern: expected at most 1000 characters, got 1001"),
        ({"patternProperties": {"^(a+)+$": {}}}, "$.patternProperties: expected none, got some"),
    ],
)
def test_a_pattern_that_cannot_be_matched_in_linear_time_is_refused(schema: dict[str, Any], fault: str) -> None:
    (found,) = schema_faults(schema)
    assert found.startswith(fault)


def test_a_property_may_have_any_name() -> None:
    assert schema_faults({"properties": {"pattern": {"type": "string"}, "patternProperties": {}}}) == []
