"""Reads single values out of queries, forms and the keys of JSON objects, for ids and event types.

Promises: never raises. A name that comes more than once has no value: neither its first nor its last is believed, as
with headers. Bytes that are not UTF-8 stay apart from each other (`\\xff` as four characters), so that two ids never
become one. What is read is bounded: `MOST_FIELDS` fields, `LONGEST_VALUE` bytes of a value, `KEYS_LIMIT` bytes
of JSON, `FORM_LIMIT` bytes of a form that holds JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

import msgspec

from events.content_forms import MOST_FIELDS, MULTIPART, URLENCODED, pairs, parse_form, unquoted
from events.content_text import media_type
from ingest.locator import Form, FormPointer, OtherKey, Query
from ingest.pointers import compile_pointers
from ingest.verify.base import Incoming

__all__ = [
    "FORM_LIMIT",
    "KEYS_LIMIT",
    "LONGEST_VALUE",
    "MOST_FIELDS",
    "compile_fields",
    "compile_form",
    "compile_query",
    "other_key",
]

LONGEST_VALUE = 1 << 16
"""Bytes, as they were sent. A longer value is not an id, nor a type."""
KEYS_LIMIT = 1 << 20
"""Bytes of a JSON object whose keys are looked at. All of its members are held at once for that."""
FORM_LIMIT = 4 << 20
"""Bytes of a form whose JSON is looked into."""

_LONGEST_NAME = 1000
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)

LookQuery = Callable[[bytes], Sequence[str | None]]
"""From a query, or a form that is written as one, to one text, or None, for each name."""
LookForm = Callable[[bytes, bytes], Sequence[str | None]]
"""From (body, Content-Type) to one text, or None, for each field."""


def compile_fields(fields: Sequence[Query | Form | FormPointer | OtherKey]) -> Callable[[Incoming], list[str | None]]:
    """From a request to one text, or None, for each of these; query and form are read once for all."""
    query_names = [field.name for field in fields if isinstance(field, Query)]
    form_names = [field.field for field in fields if isinstance(field, Form)]
    look_query, look_form = compile_query(query_names), compile_form(form_names)

    inside = {field: compile_pointers([field.path]) for field in fields if isinstance(field, FormPointer)}

    def look(incoming: Incoming) -> list[str | None]:
        body, content_type = incoming.body, incoming.headers.get(b"content-type", b"")
        in_query = iter(look_query(incoming.query) if query_names else ())
        in_form = iter(look_form(body, content_type) if form_names else ())
        values: list[str | None] = []
        for field in fields:
            match field:
                case Query():
                    values.append(next(in_query))
                case Form():
                    values.append(next(in_form))
                case FormPointer(field=name):
                    values += inside[field](_json_in(name.encode(), body, content_type))
                case OtherKey(besides=besides):
                    values.append(other_key(body, frozenset(besides)))
                case impossible:
                    assert_never(impossible)
        return values

    return look


def compile_query(names: Sequence[str]) -> LookQuery:
    """Reads these names out of `a=1&b=2`."""
    wanted = {name.encode("utf-8", "surrogatepass"): index for index, name in enumerate(names)}

    def look(encoded: bytes) -> Sequence[str | None]:
        found: list[list[bytes]] = [[] for _ in wanted]
        for name, value in pairs(encoded) or ():
            if len(name) <= _LONGEST_NAME and (index := wanted.get(unquoted(name))) is not None:
                found[index].append(value)
        return [_text(values[0]) if len(values) == 1 else None for values in found]

    return look


def compile_form(names: Sequence[str]) -> LookForm:
    """Reads these fields out of a form of either kind; files are not fields."""
    look_encoded = compile_query(names)
    nothing = [None] * len(names)

    def look(body: bytes, content_type: bytes) -> Sequence[str | None]:
        declared = content_type.decode("latin-1")
        match media_type(declared)[0]:
            case kind if kind == URLENCODED:
                return look_encoded(body)
            case kind if kind == MULTIPART:
                form = parse_form(body, declared, "backslashreplace")
                return nothing if form is None else [_only(form.fields.get(name, ())) for name in names]
            case _:
                return nothing

    return look


def _json_in(name: bytes, body: bytes, content_type: bytes) -> bytes:
    """What a field of a urlencoded form holds; b"" where there is none, or more than one."""
    if body[:1] == b"{" or len(body) > FORM_LIMIT:  # JSON itself, the usual case, costs nothing
        return b""
    if media_type(content_type.decode("latin-1"))[0] != URLENCODED:
        return b""
    values = [value for field, value in pairs(body) or () if field == name]
    return unquoted(values[0]) if len(values) == 1 else b""


def other_key(body: bytes, besides: frozenset[str]) -> str | None:
    """The one key of a JSON object that is not among `besides`; None if there is none, or more than one."""
    if len(body) > KEYS_LIMIT:
        return None
    try:
        others = _MEMBERS.decode(body).keys() - besides
    except _FAULTS:
        return None
    return others.pop() or None if len(others) == 1 else None


def _text(value: bytes) -> str | None:
    if len(value) > LONGEST_VALUE:
        return None
    return unquoted(value).decode("utf-8", "backslashreplace") or None


def _only(values: Sequence[str]) -> str | None:
    return values[0] or None if len(values) == 1 and len(values[0]) <= LONGEST_VALUE else None
