"""A template keeps what it is given, evaluates what stands between `${{` and `}}`, and keeps types."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.workflow.expressions import ExpressionError
from executor.workflow.templates import MAX_TEXT, Template, TemplateError, has_expressions

SCOPE: dict[str, Any] = {
    "event": {"id": "e1", "n": 7, "f": 1.5, "none": None, "yes": True, "list": [1, "a"], "map": {"k": "v"}},
}


@pytest.mark.parametrize(
    ("value", "rendered"),
    [
        ("${{ event.n }}", 7),
        ("${{event.n}}", 7),
        ("${{ event.none }}", None),
        ("${{ event.list }}", [1, "a"]),
        ("id ${{ event.id }}", "id e1"),
        (" ${{ event.n }}", " 7"),
        ("${{ event.n }}${{ event.f }}", "71.5"),
        ("<${{ event.none }}>", "<>"),
        ("is ${{ event.yes }}", "is true"),
        ("${{ event.list }} and ${{ event.map }}", '[1,"a"] and {"k":"v"}'),
        ("${{ {'a': {'b': event.n}} }}", {"a": {"b": 7}}),
        ("${{ {'a': {'b': event.n}}}}", {"a": {"b": 7}}),
        ("${{ '}}' + event.id }}!", "}}e1!"),
        ("$${{ event.id }}", "${{ event.id }}"),
        ("$${{ a }} ${{ event.id }}", "${{ a }} e1"),
        ("$ {{ event.id }} }}", "$ {{ event.id }} }}"),
        ({"a": ["${{ event.n }}", {"b": "x${{ event.id }}"}], "c": 1}, {"a": [7, {"b": "xe1"}], "c": 1}),
        ({"${{ event.id }}": 1}, {"${{ event.id }}": 1}),
        ("", ""),
        (None, None),
    ],
)
def test_a_template_renders(value: Any, rendered: Any) -> None:
    assert Template(value).render(SCOPE) == rendered


def test_constants_are_passed_on_and_not_copied() -> None:
    constant = {"headers": {"a": "b"}, "list": [1, 2, 3]}
    assert Template(constant).render(SCOPE) is constant
    mixed = Template({"constant": constant, "id": "${{ event.id }}"}).render(SCOPE)
    assert mixed["constant"] is constant


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ("${{ event.id", [("", "expected }} after ${{")]),
        ("${{ event.id }", [("", "expected }} after ${{")]),
        ("${{ 'a }}", [("", "expected ' before the end")]),
        ("${{ }}", [("", "expected a value")]),
        (
            {"a": ["${{ 1 + }}"], "b": {"c": "x ${{ evnt }}"}},
            [("a[0]", "expected a value"), ("b.c", "'evnt'")],
        ),
    ],
)
def test_all_faults_are_told_with_their_paths(value: Any, faults: list[tuple[str, str]]) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(value)
    assert [path for path, _ in caught.value.faults] == [path for path, _ in faults]
    for (_, text), (_, part) in zip(caught.value.faults, faults, strict=True):
        assert part in text


def test_expressions_are_listed() -> None:
    template = Template({"a": "${{ event.id }} ${{ event.n }}", "b": ["${{ nodes.x.output }}"]})
    assert [expression.source for expression in template.expressions] == [
        "event.id",
        "event.n",
        "nodes.x.output",
    ]


def test_a_missing_value_fails_the_rendering() -> None:
    with pytest.raises(ExpressionError, match="no such key 'nope'"):
        Template("x ${{ event.nope }}").render(SCOPE)


def test_a_joined_text_is_bounded() -> None:
    scope = {"event": {"text": "a" * (MAX_TEXT // 2)}}
    with pytest.raises(ExpressionError, match="expected a text of at most"):
        Template("${{ event.text }} ${{ event.text }}").render(scope)


def test_the_number_of_expressions_is_bounded() -> None:
    with pytest.raises(TemplateError, match="at most 1,000 expressions"):
        Template(["${{ event.n }}"] * 1_001)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab${} ", max_size=12),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text("ab$", max_size=3), part, max_size=3),
)


@given(_VALUES)
def test_a_value_without_expressions_is_itself(value: Any) -> None:
    try:
        template = Template(value)
    except TemplateError:
        assert has_expressions(value)
        return
    if not has_expressions(value) and "$${{" not in str(value):
        assert template.render({}) is value
