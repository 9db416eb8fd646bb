"""YAML is read as people mean it, with line numbers, and within bounds."""

# ruff: noqa: E501 - a text and its value are read on one line
from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from events.errors import ConfigError
from executor.workflow.yaml_text import load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on: off\nyes: no", {"on": "off", "yes": "no"}),
        ("a: true\nb: False\nc: null\nd: ~\ne:", {"a": True, "b": False, "c": None, "d": None, "e": None}),
        ("a: 2026-01-02\nb: 2026-01-02T03:04:05Z\nc: 1:30", {"a": "2026-01-02", "b": "2026-01-02T03:04:05Z", "c": "1:30"}),
        ("a: 12\nb: -3\nc: 0x1F\nd: 1.5\ne: 1e3\nf: '12'\ng: .inf\nh: 1e999", {"a": 12, "b": -3, "c": 31, "d": 1.5, "e": 1000.0, "f": "12", "g": ".inf", "h": "1e999"}),
        ("a: |\n  12\nb: >\n  x\n  y\n", {"a": "12\n", "b": "x y\n"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("1: one\ntrue: two", {"1": "one", "true": "two"}),
    ],
)  # fmt: skip
def test_words_mean_what_they_say(text: str, value: Any) -> None:
    assert load_yaml(text) == [value]


def test_a_text_holds_several_documents() -> None:
    assert load_yaml("a: 1\n---\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]
    assert load_yaml("") == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: expected each key once, got 'a' again"),
        ("x:\n  - {k: 1, k: 2}", "line 2: expected each key once, got 'k' again"),
        ("a: [1\nb: 2", "line 2, column 2: expected YAML, got: "),
        ("- 1", "line 1: expected a document of keys and values, got another"),
        ("a: &x {b: 1}\nc: {<<: *x}", "line 2: expected no merge key, got <<; write the keys out"),
        ("a: !!python/name:os.system x", "line 1: expected no tags, got !!python/name:os.system"),
        ("a: !secret x", "line 1: expected no tags, got !secret"),
        ("? [a]\n: 1", "line 1: expected text as a key, got a list or a mapping"),
        ("a: \x00", "text: expected YAML, got: "),
        ("[" * 300_000, "line 1: expected at most 100 levels, got more"),
        ("- " * 300_000 + "a", "line 1: expected at most 100 levels, got more"),
        ("a: &x [*x]", "line 1: expected at most 100 levels, got more"),
        ("a" * ((1 << 20) + 1), "text: expected at most 1,048,576 bytes, got 1,048,577"),
        (
            "a0: &a0 [" + "1," * 9 + "1]\n"
            + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
            "line 1: expected at most 200,000 values, got more",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_yaml(text)
    assert caught.value.faults[0].startswith(fault)


_TEXT = st.text("ab :-#'\"\n{}[]é,&*!|>%@`~", max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | _TEXT,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(_TEXT, part, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_TEXT, _JSON, max_size=4))
def test_what_is_written_is_read(value: dict[str, Any]) -> None:
    assert load_yaml(yaml.safe_dump(value, allow_unicode=True)) == [value]
