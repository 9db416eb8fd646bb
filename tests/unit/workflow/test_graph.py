"""A workflow document is read whole: every fault is told at once, what is right becomes a graph in order."""

# ruff: noqa: E501 - a fault is read on one line
from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import ConfigError
from executor.workflow.backoff import Backoff
from executor.workflow.graph import (
    Graph,
    NodeSpec,
    Retry,
    canonical,
    compile_workflow,
    content_hash,
    load_yaml,
    parse_workflow,
)
from executor.workflow.order import ancestors, cycle, topological


class RequestInputs(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    url: str
    attempts: int = 1
    headers: dict[str, str] = {}


TYPES = {
    "http.request": NodeSpec(uses="http.request", inputs=RequestInputs, retry=Retry(5, on=("timeout",)), timeout=10.0),
    "transform": NodeSpec(uses="transform", pure=True),
}

ORDER_PAID = """
workflow: order-paid
on:
  - source: stripe
    type: payment_intent.*
    if: event.body.amount >= 1000
queue: high_priority
timeout: 1h
nodes:
  notify:
    uses: transform
    needs: [summary]
    with: {value: "${{ nodes.summary.output }} ${{ nodes.customer.output.name }}"}
  customer:
    uses: http.request
    with: {url: "https://crm.example/${{ event.body.customer }}", attempts: "${{ event.body.n }}"}
    timeout: 1m30s
    retry: {max_attempts: 3, first: 2s, factor: 3, max: 1m, on: [timeout, http_5xx]}
  summary:
    uses: transform
    needs: [customer]
    if: nodes.customer.output.risk > 0.5
    with: {value: "${{ nodes.customer.output }}"}
"""


def document(**changes: Any) -> dict[str, Any]:
    return {"workflow": "w", "nodes": {"a": {"uses": "transform"}}, **changes}


def faults(value: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_workflow(value, TYPES)
    return caught.value.faults


def graph(text: str) -> Graph:
    (value,) = load_yaml(text)
    return compile_workflow(parse_workflow(value, TYPES), content_hash(value))


def test_a_document_becomes_a_graph() -> None:
    made = graph(ORDER_PAID)
    assert (made.name, made.queue, made.timeout) == ("order-paid", "high_priority", 3600.0)
    assert made.level.order == ("customer", "summary", "notify")
    assert tuple(made.nodes) == made.level.order
    assert made.level.last == ("notify",)
    assert made.nodes["customer"].dependents == ("summary",)
    assert made.nodes["notify"].needs == ("summary",)
    customer = made.nodes["customer"]
    assert customer.timeout == 90.0
    assert customer.retry == Retry(3, Backoff(first=2.0, factor=3.0, max=60.0), ("timeout", "http_5xx"))
    scope = {"event": {"body": {"customer": "c1", "n": 2}}}
    assert customer.inputs.render(scope) == {"url": "https://crm.example/c1", "attempts": 2}
    condition = made.nodes["summary"].condition
    assert condition is not None
    assert condition.evaluate({"nodes": {"customer": {"output": {"risk": 0.7}}}}) is True
    assert made.nodes["summary"].pure
    assert not customer.pure


def test_policies_come_from_the_document_the_type_or_the_default() -> None:
    nodes = {
        "plain": {"uses": "transform"},
        "typed": {"uses": "http.request", "with": {"url": "u"}},
        "partly": {"uses": "http.request", "with": {"url": "u"}, "retry": {"max_attempts": 2}, "timeout": 5},
    }
    made = parse_workflow(document(nodes=nodes), TYPES).nodes
    assert (made["plain"].timeout, made["plain"].retry) == (30.0, None)
    assert (made["typed"].timeout, made["typed"].retry) == (10.0, Retry(5, on=("timeout",)))
    assert (made["partly"].timeout, made["partly"].retry) == (5.0, Retry(2, on=("timeout",)))
    assert parse_workflow(document(), TYPES).queue == "webhook"
    assert parse_workflow(document(), TYPES).timeout is None


def test_without_node_types_uses_and_with_are_unchecked() -> None:
    made = parse_workflow(document(nodes={"a": {"uses": "any.thing", "with": {"x": 1}}}))
    assert made.nodes["a"].inputs == {"x": 1}


def test_all_faults_are_told_at_once() -> None:
    value = document(
        workflow="9 lives",
        onn=1,
        queue="fast",
        timeout="soon",
        nodes={"a": {"uses": "transfrom", "neds": []}},
    )
    assert faults(value) == [
        "onn: expected a known key, got 'onn'; did you mean on?",
        "workflow: expected a name of letters, digits, - and _ that starts with a letter, got '9 lives'",
        "queue: expected one of high_priority, default, webhook, got 'fast'",
        "timeout: expected a duration such as 30s, 5m or 24h, up to 366d, got 'soon'",
        "nodes.a.neds: expected a known key, got 'neds'; did you mean needs?",
        "nodes.a.uses: expected a node type, got 'transfrom'; did you mean transform?",
    ]


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        (3, "nodes.a: expected keys and values, got 3"),
        ({}, "nodes.a.uses: expected a name of letters, digits, - and _ that starts with a letter, got nothing"),
        ({"needs": "b"}, "nodes.a.needs: expected a list, got 'b'"),
        ({"needs": ["b"]}, "nodes.a.needs[0]: expected a node, got 'b'"),
        ({"needs": ["a"]}, "nodes: expected no cycle, got a needs a"),
        ({"needs": [1]}, "nodes.a.needs[0]: expected text, got 1"),
        ({"timeout": "0s"}, "nodes.a.timeout: expected a duration such as 30s, 5m or 24h, up to 1d, got '0s'"),
        ({"timeout": True}, "nodes.a.timeout: expected a duration such as 30s, 5m or 24h, up to 1d, got True"),
        ({"timeout": "nan"}, "nodes.a.timeout: expected a duration such as 30s, 5m or 24h, up to 1d, got 'nan'"),
        ({"if": True}, "nodes.a.if: expected text, got True"),
        ({"if": "1 +"}, "nodes.a.if: 1 +: expected a value, got the end at character 4"),
        ({"if": "event.bdy"}, "nodes.a.if: event.bdy: expected a field of event, got 'bdy'; did you mean body?"),
        ({"if": "nodes.a.output"}, "nodes.a.if: nodes.a.output: expected nodes that a needs, itself or through others, got 'a'; add it to needs"),
        ({"if": "size(nodes) > 0"}, "nodes.a.if: size(nodes) > 0: expected nodes.<name>.output, got nodes without a name"),
        ({"with": 3}, "nodes.a.with: expected keys and values, got 3"),
        ({"with": {"v": {"w": ["${{ x }}"]}}}, "nodes.a.with.v.w[0]: x: expected one of event, events, run, nodes, input, got 'x'"),
        ({"retry": 3}, "nodes.a.retry: expected keys and values, got 3"),
        ({"retry": {"max_attempts": 0}}, "nodes.a.retry.max_attempts: expected a whole number from 1 to 1000, got 0"),
        ({"retry": {"factor": 0.5}}, "nodes.a.retry.factor: expected a number from 1 to 100, got 0.5"),
        ({"retry": {"first": "1h", "max": "1s"}}, "nodes.a.retry.max: expected at least first (3600 s), got 1 s"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_node_is_told(node: Any, fault: str) -> None:
    value = {"uses": "transform", **node} if isinstance(node, dict) and node else node
    assert faults(document(nodes={"a": value})) == [fault]


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        ({}, "nodes.a.with.url: expected a value, got nothing"),
        ({"url": 3}, "nodes.a.with.url: expected str, got int"),
        ({"url": "u", "attemps": 2}, "nodes.a.with.attemps: expected an input that the node takes, got 'attemps'; did you mean attempts?"),
        ({"url": "u", "headers": {"a": 1}}, "nodes.a.with.headers: expected str, got int - at $[...]"),
    ],
)  # fmt: skip
def test_inputs_are_checked_against_the_type(inputs: Any, fault: str) -> None:
    assert faults(document(nodes={"a": {"uses": "http.request", "with": inputs}})) == [fault]


@pytest.mark.parametrize(
    ("trigger", "fault"),
    [
        (1, "on[0]: expected keys and values, got 1"),
        (
            {},
            "on[0].source: expected a name of letters, digits, - and _ that starts with a letter, got nothing",
        ),
        ({"source": "s", "type": "a[b"}, "on[0].type: expected a ] for every [, got 'a[b'"),
        (
            {"source": "s", "type": "*a" * 11},
            "on[0].type: expected a glob of at most 200 characters and 10 *, got more",
        ),
        ({"source": "s", "if": "run.id == ''"}, "on[0].if: run.id == '': expected one of event, got 'run'"),
        ({"source": "s", "iff": "true"}, "on[0].iff: expected a known key, got 'iff'; did you mean if?"),
    ],
)
def test_what_is_wrong_with_a_trigger_is_told(trigger: Any, fault: str) -> None:
    assert faults(document(on=[trigger])) == [fault]


def test_a_graph_has_between_one_and_a_thousand_nodes() -> None:
    assert faults(document(nodes={})) == ["nodes: expected at least one node, got none"]
    assert faults({"workflow": "w"}) == ["nodes: expected at least one node, got none"]
    many = {f"n{index}": {"uses": "transform", "needs": [f"n{index - 1}"] * (index > 0)} for index in range(1_001)}
    assert faults(document(nodes=many)) == ["nodes: expected at most 1,000 nodes, got 1,001"]
    del many["n1000"]
    assert len(parse_workflow(document(nodes=many), TYPES).nodes) == 1_000


def test_a_cycle_is_named() -> None:
    nodes = {
        "a": {"uses": "transform"},
        "b": {"uses": "transform", "needs": ["a", "d"]},
        "c": {"uses": "transform", "needs": ["b"]},
        "d": {"uses": "transform", "needs": ["c"]},
    }
    assert faults(document(nodes=nodes)) == ["nodes: expected no cycle, got b needs d needs c needs b"]


def test_a_mention_must_be_of_an_ancestor() -> None:
    nodes = {
        "a": {"uses": "transform"},
        "b": {"uses": "transform", "needs": ["a"]},
        "c": {"uses": "transform", "needs": ["b"], "with": {"value": "${{ nodes.a.output }}"}},
        "d": {"uses": "transform", "with": {"value": "${{ nodes.c.output }} ${{ nodes.q.output }}"}},
        "e": {"uses": "transform", "needs": ["a"], "with": {"value": "${{ nodes.a.outptu }}"}},
    }
    assert faults(document(nodes=nodes)) == [
        "nodes.d.with: nodes.c.output: expected nodes that d needs, itself or through others, got 'c'; add it to needs",
        "nodes.d.with: nodes.q.output: expected a node, got 'q'",
        "nodes.e.with: nodes.a.outptu: expected nodes.a.output, got 'outptu'",
    ]


def test_documents_that_are_no_json_or_too_deep_are_refused() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert "at most 1,048,576 bytes and 100 levels" in faults(document(on=deep))[0]
    assert "what JSON can hold" in faults(document(on=object()))[0]
    assert "1,048,576 bytes" in faults(document(on="a" * (1 << 20)))[0]


def test_the_hash_is_of_the_content_and_not_of_its_form() -> None:
    (one,) = load_yaml(ORDER_PAID)
    (other,) = load_yaml(canonical(one).decode())
    assert dict(reversed(other.items())) == one
    assert content_hash(dict(reversed(other.items()))) == content_hash(one)
    assert len(content_hash(one)) == 32
    assert content_hash({**one, "timeout": "2h"}) != content_hash(one)


_NAMES = st.integers(0, 7).map("n{}".format)


@given(st.dictionaries(_NAMES, st.lists(_NAMES, max_size=3, unique=True).map(tuple), min_size=1))
def test_order_and_cycles_of_any_graph(links: dict[str, tuple[str, ...]]) -> None:
    needs = {name: tuple(need for need in links[name] if need in links) for name in links}
    order = topological(needs)
    for position, name in enumerate(order):
        assert set(needs[name]) <= set(order[:position])
    around = cycle(needs)
    if around:
        assert around[0] == around[-1]
        assert all(after in needs[name] for name, after in itertools.pairwise(around))
    else:
        assert set(order) == set(needs)
        for name, found in ancestors(needs).items():
            assert found == set(needs[name]).union(*(ancestors(needs)[need] for need in needs[name]))
