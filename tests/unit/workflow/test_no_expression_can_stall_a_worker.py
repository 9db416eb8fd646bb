"""What is not refused when it is published is bounded before CEL is entered."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.workflow.cel_cost import MAX_BYTES, MAX_ELEMENTS, TooMuch, measure, pattern_states
from executor.workflow.expressions import MAX_RESULT, Expression, ExpressionError

OBJECTS = [{"id": index, "name": f"name {index}", "tags": ["x", "y"]} for index in range(10_000)]
SCOPE: dict[str, Any] = {
    "event": {
        "numbers": list(range(10_000)),
        "more": list(range(MAX_ELEMENTS + 1)),
        "objects": OBJECTS,
        "text": "a" * 5_000_000,
        "page": "a" * 100_000,
        "keys": {str(index): index for index in range(MAX_ELEMENTS + 1)},
    }
}


class Entered(BaseException):
    """CEL was asked to evaluate."""


class Tripwire:
    """In place of the program: nothing may be evaluated."""

    def execute(self, values: dict[str, Any]) -> Any:
        raise Entered


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("event.a" + " + event.a" * 300, "at most 2,000 characters"),
        ("1" + "+1" * 600, "at most 500 parts"),
        ("(" * 60 + "1" + ")" * 60, "at most 24 levels"),
        ("[" * 60 + "1" + "]" * 60, "at most 24 levels"),
        ("size(" * 60 + "'a'" + ")" * 60, "at most 24 levels"),
        ("true ? 1 : " * 60 + "1", "at most 24 levels"),
        ("event.a.all(x, event.a.all(y, y == x))", "no comprehension inside another"),
        ("event.a.map(x, x.b.filter(y, y > 1))", "no comprehension inside another"),
        ("event.a.exists(x, (event.a).exists_one(y, y == x))", "no comprehension inside another"),
        ("event.a.matches(event.b)", "literal pattern"),
        ("event.a.matches('a' + 'b')", "literal pattern"),
        (r"event.a.matches('\x28a{1000}\x29{1000}')", "literal pattern"),
        (r"event.a.matches(r'\pL{200}')", "states"),
        (r"event.a.matches(r'(((a{30}){30}){30})')", "states"),
        (r"event.a.matches(r'(\w{20}){20}')", "states"),
        (r"event.a.matches(r'(?x) \w {200}')", "verbose"),
        (f"event.a.matches('{'a' * 201}')", "201 characters"),
        ("lists.range(1000000)", "lists"),
        ("range(1000000)", "a function that exists"),
        ("'a'.repeat(1000000)", "a function that exists"),
        ("[1].transformList(i, v, v)", "got 'i'"),
        ("cel.bind(x, 1, x)", "got 'cel'"),
    ],
)
def test_it_is_refused_when_it_is_published(source: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(source)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "['a']" + ".map(x, x + x)" * 60,
        "[event.page]" + ".map(x, x + x)" * 12 + "[0].size()",
        "['a']" + ".map(x, [x, x])" * 60,
        "['a']" + f".map(x, {' + '.join(['x'] * 55)})" * 4,
        "[1, 2].map(x, event.page" + " + event.page" * 100 + ")",
        "event.numbers.map(x, x).size()",  # map copies what is there so far for each element
        "event.objects.filter(x, x.id > 5).size()",
        "event.objects.map(x, x)[0]",
        "event.more.map(x, x)",
        "event.more.all(x, true)",
        "event.keys.all(x, true)",
        "(event.numbers + event.numbers).all(x, x >= 0)",
        "event.numbers.exists(x, -1 in event.numbers)",
        "event.numbers.exists(x, event.objects != event.objects)",
        "event.numbers.all(x, [event.objects].size() == 1)",
        "event.numbers.all(x, event.text.contains('b'))",
        "event.numbers.all(x, event.text != event.text + 'a')",
        "event.numbers.all(x, 'a'.matches('^b'))",
        "event.text" + " + event.text" * 100,
        "event.page" + " + event.page" * 100 + " == ''",
        "{'a': " * 20 + "event.objects" + "}" * 20,
        "event.text.matches('[ab]*a[ab]{100}c')",
        r"event.text.matches(r'\w+@\w+')",
        "event == event",
        "event.objects == event.objects",
    ],
)
def test_it_is_refused_before_cel_is_entered(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    expression = Expression(source)
    monkeypatch.setattr(expression, "_program", Tripwire())
    with pytest.raises(ExpressionError) as caught:
        expression.evaluate(SCOPE)
    assert "expected less to compute" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("event.numbers.all(x, x >= 0)", True),
        ("event.objects.exists(x, x.id == 9999)", True),
        ("event.numbers.size()", 10_000),
        ("event.numbers.map(x, x + 1)", list(range(1, 10_001))),
        ("event.numbers.filter(x, x % 1000 == 0)", list(range(0, 10_000, 1000))),
        ("event.text.size()", 5_000_000),
        ("event.text.contains('b')", False),
        ("event.page.matches('^a+$')", True),
        ("[1, 2, 3].map(x, x * 2).filter(x, x > 2)", [4, 6]),
    ],
)
def test_what_is_bounded_is_computed(source: str, value: Any) -> None:
    assert Expression(source).evaluate(SCOPE) == value


@pytest.mark.parametrize("source", ["event.numbers" + ".map(x, x)" * 20, "event.objects.map(x, [event.page, x])"])
def test_work_by_pieces_is_bounded_in_sum(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    pieces = []

    class Counting:
        def execute(self, values: dict[str, Any]) -> list[Any]:
            pieces.append(values)
            return []

    expression = Expression(source)
    monkeypatch.setattr(expression, "_program", Counting())
    with pytest.raises(ExpressionError, match="expected less to compute"):
        expression.evaluate(SCOPE)
    assert len(pieces) < 200  # of 313


def test_a_result_is_bounded() -> None:
    scope = {"event": {"page": "a" * (MAX_RESULT // 2)}}
    assert len(Expression("event.page + 'b'").evaluate(scope)) == MAX_RESULT // 2 + 1
    with pytest.raises(ExpressionError, match="a result of 1,048,578 bytes"):
        Expression("event.page + event.page").evaluate(scope)


def test_a_plain_path_is_passed_on_whatever_its_size() -> None:
    text = "a" * (MAX_BYTES + 1)
    assert Expression("event.text").evaluate({"event": {"text": text}}) is text


def test_values_nested_too_deep_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ExpressionError, match="nested"):
        Expression("size(event.deep)").evaluate({"event": {"deep": deep}})
    while deep:  # taken apart by hand: Python frees nested lists by recursion
        deep = deep.pop()


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        ("abc", 3),
        ("a{5}", 5),
        ("(ab){3}", 6),
        ("(a{2}b){3}c", 10),
        ("x{2,4}", 4),
        (r"\d{4}-\d{2}", 61),
        (r"\w", 60),
    ],
)
def test_the_states_of_a_pattern_are_counted(pattern: str, states: int) -> None:
    assert pattern_states(pattern) == states


@given(st.text("ab(){}[]\\w,0129?*+|^$", max_size=60))
def test_any_pattern_is_counted_or_refused(pattern: str) -> None:
    with contextlib.suppress(TooMuch):
        assert 0 <= pattern_states(pattern) <= 2_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=3), part, max_size=4),
    max_leaves=20,
)


def _count(value: Any) -> int:
    match value:
        case dict():
            return 1 + sum(1 + _count(part) for part in value.values())
        case list():
            return 1 + sum(map(_count, value))
        case _:
            return 1


@given(_JSON)
def test_a_value_is_never_larger_than_it_is_measured(value: Any) -> None:
    size = measure(value)
    assert size.nodes >= _count(value)
    assert size.bytes >= (len(value.encode()) if isinstance(value, str) else 0)
    assert not isinstance(value, list | dict) or size.elements == len(value)
