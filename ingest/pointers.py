"""Reads single values out of a JSON body by JSON Pointer (RFC 6901), without building the rest of it.

Promises: it never raises, whatever the body is: not JSON, not UTF-8, nested beyond the stack, cut off. What
cannot be read is None, and a fault at one pointer does not hide what another finds beside it, as long as the
whole is JSON. It holds what it was asked for and no more, however many members and items there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

Look = Callable[[bytes], Sequence[str | None]]
"""From a body to one text, or None, for each pointer. Numbers and booleans come as the body spells them."""

_Value = msgspec.Raw | bytes
_ARRAY = re.compile(rb"[ \t\n\r]*\[")
_INDEX = re.compile(r"0|[1-9][0-9]{0,2}")
"""Only the first thousand items of an array can be pointed at."""
_BAD_ESCAPE = re.compile(r"~(?![01])")
_TEXT = msgspec.json.Decoder(str)
_FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)


def pointer_tokens(pointer: str) -> list[str]:
    """The reference tokens of a pointer: `/data/a~1b` is `data`, `a/b`.

    Raises:
        ValueError: it does not begin with `/`, or has a `~` that is neither `~0` nor `~1`.
    """
    if not pointer.startswith("/") or _BAD_ESCAPE.search(pointer):
        raise ValueError(f"expected a JSON Pointer such as /data/id, got {pointer!r}")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def compile_pointers(pointers: Sequence[str]) -> Look:
    """What several pointers have in common is read once for all of them: a value that is on the way to others is read
    once, and its members stay where they are in the body.

    Raises:
        ValueError: one of them is not a pointer.
    """
    below: list[dict[str, int]] = [{}]  # for each value on the way, the body first: tokens to the places of values
    ends = []
    for pointer in pointers:
        place = 0
        for token in pointer_tokens(pointer):
            if token not in below[place]:
                below[place][token] = len(below)
                below.append({})
            place = below[place][token]
        ends.append(place)
    steps = [(place, _cutter(list(names)), list(names.values())) for place, names in enumerate(below) if names]

    def look(body: bytes) -> Sequence[str | None]:
        values: list[_Value] = [b""] * len(below)
        values[0] = body
        for place, cut, places in steps:
            if value := values[place]:
                try:
                    found = cut(value)
                except _FAULTS:
                    continue
                for at, member in zip(places, found, strict=True):
                    values[at] = member
        return [_text(values[place]) for place in ends]

    return look


def _cutter(names: list[str]) -> Callable[[_Value], Sequence[_Value]]:
    """Cuts the named members out of an object, or indexed items out of an array; b"" where one is absent."""
    fields = [f"f{index}" for index in range(len(names))]
    members = msgspec.defstruct(
        "Members",
        [(field, msgspec.Raw, msgspec.Raw()) for field in fields],
        rename=dict(zip(fields, names, strict=True)),
        gc=False,
    )
    decode = msgspec.json.Decoder(members).decode

    def cut_object(value: _Value) -> Sequence[_Value]:
        found = decode(value)
        return [getattr(found, field) for field in fields]

    indices = [int(name) if _INDEX.fullmatch(name) else None for name in names]
    longest = max((index for index in indices if index is not None), default=None)
    if longest is None:
        return cut_object
    items = msgspec.defstruct(  # the items up to the last one that is asked for; those behind it are skipped
        "Items", [(f"f{index}", msgspec.Raw, msgspec.Raw()) for index in range(longest + 1)], array_like=True, gc=False
    )
    decode_items = msgspec.json.Decoder(items).decode

    def cut(value: _Value) -> Sequence[_Value]:
        if not _ARRAY.match(value):
            return cut_object(value)
        found = decode_items(value)
        return [b"" if index is None else getattr(found, f"f{index}") for index in indices]

    return cut


def _text(value: _Value) -> str | None:
    """The text of a value; None if it is absent, empty, null, an object or an array."""
    match bytes(memoryview(value)[:1]):
        case b"" | b"{" | b"[" | b"n":
            return None
        case b'"':
            try:
                return _TEXT.decode(value) or None
            except _FAULTS:
                return None
        case _:
            return bytes(value).decode("utf-8", "backslashreplace")
