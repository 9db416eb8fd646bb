"""What a delivery is called and what it is about: the dedup key, the sender's own id, the event type.

Promises: it never raises, whatever the request holds; every text it returns is printable, of bounded length
and fit for a PostgreSQL `text`. Two deliveries have the same key only if the sender gave them the same id,
or, where nothing serves as an id, if all that the scheme authenticates is the same (`Description.covered`). Keys are
unique within one source, not across sources. Call it after verification: an id that was not verified must not keep a
real delivery out. Call it with the body as it was before any Content-Encoding, and for an item of a batch with the
item's body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b

import msgspec

from events.ids import dedup_key
from ingest.fields import compile_fields
from ingest.locator import First, Form, FormPointer, Header, Locator, OtherKey, Part, Pointer, Query
from ingest.pointers import compile_pointers
from ingest.verify.base import Covered, Incoming, body_or_address

__all__ = [
    "MAX_ID",
    "MAX_TYPE",
    "First",
    "Form",
    "FormPointer",
    "Header",
    "Identify",
    "Identity",
    "Locator",
    "OtherKey",
    "Part",
    "Pointer",
    "Query",
    "compile_identity",
]

MAX_ID = 255
"""Characters of a delivery id. A longer one is cut and ends in its hash."""
MAX_TYPE = 200
"""Characters of an event type. A longer one is cut and ends in its hash."""


class Identity(msgspec.Struct, frozen=True, gc=False):
    """`key` is 16 bytes; `delivery_id` is the sender's own, if it gave one; `event_type` may be empty."""

    key: bytes
    delivery_id: str | None
    event_type: str


Identify = Callable[[Incoming], Identity]
_Read = Callable[[Mapping[bytes, bytes], Sequence[str | None]], str | None]


def compile_identity(id: Locator, type: Locator, covered: Covered = body_or_address) -> Identify:
    """The function that identifies one source's deliveries.

    Args:
        id, type: see `Locator`.
        covered: what is hashed where nothing serves as an id; the scheme's `covered()`.

    Raises:
        ValueError: a locator holds something that is not a JSON Pointer.
    """
    plain = dict.fromkeys(_flat((*id, *type)))
    pointers = [part for part in plain if isinstance(part, Pointer)]
    fields = [part for part in plain if isinstance(part, Query | Form | FormPointer | OtherKey)]
    places: dict[Part, int] = {part: index for index, part in enumerate((*pointers, *fields))}
    look = compile_pointers([part.path for part in pointers]) if pointers else _look_nowhere
    look_beside = compile_fields(fields) if fields else None
    id_parts = [_reader(part, places) for part in id]
    type_parts = [_reader(part, places) for part in type]

    def identify(incoming: Incoming) -> Identity:
        headers, found = incoming.headers, look(incoming.body)
        if look_beside is not None:
            found = [*found, *look_beside(incoming)]
        event_type = ".".join(_present(type_parts, headers, found))
        if event_type:
            event_type = _fit(event_type, MAX_TYPE)
        ids = _present(id_parts, headers, found)
        if ids and len(ids) == len(id_parts):
            key = dedup_key(b"id", *[part.encode("utf-8", "surrogatepass") for part in ids])
            return Identity(key, _fit(":".join(ids), MAX_ID), event_type)
        return Identity(dedup_key(*covered(incoming)), None, event_type)

    return identify


def _look_nowhere(body: bytes) -> Sequence[str | None]:
    return ()


def _flat(parts: Sequence[Part]) -> Iterator[Header | Pointer | Query | Form | FormPointer | OtherKey]:
    for part in parts:
        if isinstance(part, First):
            yield from _flat(part.parts)
        else:
            yield part


def _reader(part: Part, places: Mapping[Part, int]) -> _Read:
    match part:
        case Pointer() | Query() | Form() | FormPointer() | OtherKey():
            index = places[part]
            return lambda headers, found: found[index]
        case First(parts=parts):
            readers = [_reader(one, places) for one in parts]
            return lambda headers, found: next(
                (value for one in readers if (value := one(headers, found)) is not None), None
            )
        case Header(name=name, instead=instead):
            first, second = name.lower().encode(), instead.lower().encode()

            def read(headers: Mapping[bytes, bytes], found: Sequence[str | None]) -> str | None:
                value = headers.get(first)
                if value is None:
                    value = headers.get(second)
                if not value or b"\n" in value:  # absent, or repeated: see `headers_of`
                    return None
                return value.decode("utf-8", "backslashreplace")

            return read


def _present(parts: list[_Read], headers: Mapping[bytes, bytes], found: Sequence[str | None]) -> list[str]:
    """The values of the parts before the first that is absent."""
    values: list[str] = []
    for part in parts:
        value = part(headers, found)
        if value is None:
            break
        values.append(value)
    return values


def _fit(text: str, limit: int) -> str:
    """The text, printable and no longer than `limit`; what is cut off is replaced by a hash of the whole."""
    if len(text) > limit:
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        text = f"{text[: limit - 33]}~{digest}"
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
