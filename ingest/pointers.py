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

_Step = Callable[[bytes], bytes]
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
    """One pass over a body for all pointers: their first members are cut out raw, then each is followed
    alone.

    Raises:
        ValueError: one of them is not a pointer.
    """
    paths = [pointer_tokens(pointer) for pointer in pointers]
    heads = list(dict.fromkeys(path[0] for path in paths))
    cut = _cutter(heads)
    routes = [(heads.index(path[0]), [_step(token) for token in path[1:]]) for path in paths]
    nothing: list[str | None] = [None] * len(paths)

    def look(body: bytes) -> Sequence[str | None]:
        try:
            members = cut(body)
        except _FAULTS:
            return nothing
        return [_follow(members[index], steps) for index, steps in routes]

    return look


def _cutter(names: list[str]) -> Callable[[bytes], Sequence[msgspec.Raw | bytes]]:
    """Cuts the named members out of an object, or indexed items out of an array; b"" where one is absent."""
    fields = [f"f{index}" for index in range(len(names))]
    members = msgspec.defstruct(
        "Members",
        [(field, msgspec.Raw, msgspec.Raw()) for field in fields],
        rename=dict(zip(fields, names, strict=True)),
        gc=False,
    )
    decode = msgspec.json.Decoder(members).decode

    def cut_object(body: bytes) -> Sequence[msgspec.Raw | bytes]:
        found = decode(body)
        return [getattr(found, field) for field in fields]

    indices = [int(name) if _INDEX.fullmatch(name) else None for name in names]
    longest = max((index for index in indices if index is not None), default=None)
    if longest is None:
        return cut_object
    items = msgspec.defstruct(  # the items up to the last one that is asked for; those behind it are skipped
        "Items", [(f"f{index}", msgspec.Raw, msgspec.Raw()) for index in range(longest + 1)], array_like=True, gc=False
    )
    decode_items = msgspec.json.Decoder(items).decode

    def cut(body: bytes) -> Sequence[msgspec.Raw | bytes]:
        if body.lstrip()[:1] != b"[":
            return cut_object(body)
        found = decode_items(body)
        return [b"" if index is None else getattr(found, f"f{index}") for index in indices]

    return cut


def _step(token: str) -> _Step:
    cut = _cutter([token])
    return lambda raw: bytes(cut(raw)[0])


def _follow(member: msgspec.Raw | bytes, steps: list[_Step]) -> str | None:
    """The text of the value at the end of the steps; None if it is absent, empty, null, an object or an
    array.
    """
    try:
        value = bytes(member)
        for step in steps:
            value = step(value)
        if value[:1] == b'"':
            return _TEXT.decode(value) or None
    except _FAULTS:
        return None
    return None if value[:1] in (b"", b"{", b"[", b"n") else value.decode("utf-8", "backslashreplace")
