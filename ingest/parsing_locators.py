"""Reads where a delivery's id and type stand.

{header: X-Id}   {pointer: /data/id}   {query: id}   {form: MessageSid}   {first: [{header: X-Id}, {pointer: /id}]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ingest.identity import First, Form, Header, Locator, Part, Pointer, Query
from ingest.pointers import pointer_tokens
from ingest.reading import Section, got

HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
NAME = re.compile(r"[^\x00-\x1f]{1,100}")
_FORMS = ("header", "pointer", "query", "form", "first")


def parse_locator(top: Section, key: str, words: Mapping[str, Locator]) -> Locator | None:
    """The locator at a key; None if it is absent.

    Args:
        words: those that may stand there instead, with what they mean.
    """
    value = top.value(key)
    if value is None:
        return None
    if isinstance(value, str) and value in words:
        return words[value]
    expected = " or ".join([*(f"{{{form}: …}}" for form in _FORMS), *words])
    if not isinstance(value, list):
        part = _part(top, key, value, expected)
        return None if part is None else (part,)
    return _parts(top, key, value, expected)


def _parts(top: Section, path: str, values: list[Any], expected: str) -> tuple[Part, ...]:
    if not values:
        top.fault(path, expected, "an empty list")
    parts = [_part(top, f"{path}[{index}]", item, expected) for index, item in enumerate(values)]
    return tuple(part for part in parts if part is not None)


def _part(top: Section, path: str, value: Any, expected: str) -> Part | None:  # noqa: PLR0911 - one per form
    if not isinstance(value, Mapping) or len(value) != 1:
        top.fault(path, expected, got(value))
        return None
    section = top.section(path, value, _FORMS)
    match next(iter(value)):
        case "header":
            return Header(section.matching("header", HEADER, "a header name", required=True))
        case "query":
            return Query(section.matching("query", NAME, "the name of a query parameter", required=True))
        case "form":
            return Form(section.matching("form", NAME, "the name of a form field", required=True))
        case "first" if isinstance(value["first"], list) and not any(map(_is_first, value["first"])):
            return First(_parts(top, f"{path}.first", value["first"], expected))
        case "first":
            section.fault("first", "a list of the other forms", got(value["first"]))
        case "pointer":
            try:
                pointer_tokens(section.text("pointer"))
            except ValueError:
                section.fault("pointer", "a JSON Pointer such as /data/id", got(value["pointer"]))
            else:
                return Pointer(section.text("pointer"))
        case _:
            pass  # an unknown key: the section said so
    return None


def _is_first(value: Any) -> bool:
    return isinstance(value, Mapping) and "first" in value
