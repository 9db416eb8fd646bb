"""Where in a request an id or an event type stands: plain data, stored as JSON with the source's definition."""

from __future__ import annotations

import msgspec


class Header(msgspec.Struct, frozen=True, tag_field="in", tag="header"):
    """The value of a header. `instead` names the header that is read where this one is absent."""

    name: str
    instead: str = ""


class Pointer(msgspec.Struct, frozen=True, tag_field="in", tag="pointer"):
    """The text, number or boolean at a JSON Pointer (RFC 6901) into the body."""

    path: str


class Query(msgspec.Struct, frozen=True, tag_field="in", tag="query"):
    """The value of a name in the URL's query."""

    name: str


class Form(msgspec.Struct, frozen=True, tag_field="in", tag="form"):
    """The value of a field of a form (urlencoded or multipart)."""

    field: str


class FormPointer(msgspec.Struct, frozen=True, tag_field="in", tag="form_pointer"):
    """The same as `Pointer` into the JSON text that a field of a urlencoded form holds."""

    field: str
    path: str


class OtherKey(msgspec.Struct, frozen=True, tag_field="in", tag="other_key"):
    """The one key of the body, a JSON object, that is not among `besides`: what it is about, where the key says so."""

    besides: tuple[str, ...]


class First(msgspec.Struct, frozen=True, tag_field="in", tag="first"):
    """The first of these that is present."""

    parts: tuple[Part, ...]


Part = Header | Pointer | Query | Form | FormPointer | OtherKey | First

Locator = tuple[Part, ...]
"""Where an id or a type stands. Several parts belong together: an id needs all of them; a type is made of
those before the first that is absent, joined by full stops. No part: hash the body, or no type.
"""
