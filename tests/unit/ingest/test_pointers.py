"""What many pointers have in common is read once, nothing is copied on the way, and each finds what it finds alone."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import pointers
from ingest.identity import First, Locator, Pointer
from ingest.pointers import compile_pointers
from ingest.providers import PRESETS

BODY = b"""
 {"a": {"b": [ {"c": "text", "d": 7.50}, true, null, "" ], "": {"~": "odd"}}, "a/b": false,
 "x": [1, "two"], "e": [], "f": {}, "u": "\\u00e9\xc3\xa9", "g": "\xff"} """


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/a/b/0/c", "text"),
        ("/a/b/0/d", "7.50"),
        ("/a/b/1", "true"),
        ("/a/b/2", None),
        ("/a/b/3", None),
        ("/a/b/4", None),
        ("/a/b", None),
        ("/a/b/c", None),
        ("/a//~0", "odd"),
        ("/a~1b", "false"),
        ("/a~1b/0", None),
        ("/x/1", "two"),
        ("/x/01", None),
        ("/x/-", None),
        ("/e", None),
        ("/f", None),
        ("/f/0", None),
        ("/u", "éé"),
        ("/g", None),
    ],
)
def test_a_pointer_finds_a_text_or_nothing(pointer: str, expected: str | None) -> None:
    assert compile_pointers([pointer])(BODY) == [expected]
    several = ["/a/b/0/c", pointer, "/g", "/x/1", pointer]
    assert compile_pointers(several)(BODY) == ["text", expected, None, "two", expected]


def test_items_of_an_array_itself() -> None:
    assert compile_pointers(["/1/a", "/0", "/name", "/1/b/0"])(b'\n[1, {"a": "x", "b": ["y"]}, 3]') == [
        "x",
        "1",
        None,
        "y",
    ]


def paths(locator: Locator) -> list[str]:
    found: list[str] = []
    for part in locator:
        match part:
            case Pointer(path):
                found.append(path)
            case First(parts):
                found += paths(parts)
    return found


META = paths((*PRESETS["meta"].id, *PRESETS["meta"].type))


def test_every_value_on_the_way_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    cutter = pointers._cutter

    def counted(names: list[str]) -> Callable[[Any], Sequence[Any]]:
        cut = cutter(names)

        def noted(value: Any) -> Sequence[Any]:
            read.append(len(value))
            return cut(value)

        return noted

    monkeypatch.setattr(pointers, "_cutter", counted)
    look = compile_pointers(META)
    value = {"pad": [1] * 50_000, "messages": [{"id": "m"}], "statuses": [{"id": "s", "status": "read"}]}
    body = json.dumps({"object": "w", "entry": [{"changes": [{"field": "f", "value": value}]}]}).encode()
    assert look(body) == ["m", "s", None, "read", "f", "w", "f", "read"]
    assert len(META) == 8
    assert sum(read) < 6.1 * len(body), "the body, and five values within each other"


@pytest.mark.parametrize("pointer", ["/0", "/999", "/a/0", "/a/b/0/c", "/999/a"])
def test_what_is_not_asked_for_is_not_held(pointer: str) -> None:
    array = b"[" + b"1," * 1_000_000 + b"1]"
    bodies = [array, b'{"a":' + array + b"}", b'{"a":{"b":' + array + b"}}", b'[{"a":' + array + b"}]"]
    look = compile_pointers([pointer])
    tracemalloc.start()
    try:
        for body in bodies:
            look(body)
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()


TOKENS = ["a", "b", "0", "1"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TOKENS), inner, max_size=3),
    max_leaves=20,
)
POINTERS = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4).map(lambda tokens: "/" + "/".join(tokens))


def expected(value: Any, pointer: str) -> str | None:
    for token in pointer[1:].split("/"):
        if isinstance(value, list):
            value = value[int(token)] if token.isdigit() and int(token) < len(value) else None
        else:
            value = value.get(token) if isinstance(value, dict) else None
    if isinstance(value, str):
        return value or None
    return None if value is None or isinstance(value, list | dict) else json.dumps(value)


@given(VALUES, st.lists(POINTERS, min_size=1, max_size=6))
def test_together_they_find_what_each_finds_alone(value: Any, several: list[str]) -> None:
    assert compile_pointers(several)(json.dumps(value).encode()) == [expected(value, pointer) for pointer in several]
