"""Cuts JSON without building it: one event out of an array, or all but one out of their document.

Promises: pure; raises nothing but `FAULTS` (an array or a member cut where there is none), and narrowing not even that:
what has no events in the expected form comes back as it is. Bytes outside of what is narrowed stay as they were. Time
and memory are proportional to what comes in and out: an array is read only after it is known to hold objects, and no
more than `MOST_ITEMS` of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

MOST_ITEMS = 10_000
"""A delivery with more is stored whole and not split."""

Narrow = Callable[[bytes], Iterator[bytes]]
"""From a JSON value to the same value with one of its events left, for each; to itself where it holds none."""

FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)
_PLACES = 8
"""Equal stretches of a value that are tried before it is given up to find out which of them is meant."""


def one_of(arrays: dict[str, Narrow | None]) -> Narrow:
    """Narrows an object to one element of one of its arrays; the other arrays named here are emptied.

    Args:
        arrays: the members that may hold events, and how an element of each is narrowed in turn.
    """
    cuts = {name: member(name) for name in arrays}
    slices = objects_of(())

    def narrow(value: bytes) -> Iterator[bytes]:
        found: list[tuple[int, int, str, list[bytes]]] = []
        for name, cut in cuts.items():
            with contextlib.suppress(*FAULTS):
                raw = cut(value)
                if raw and (events := slices(raw)):
                    start = _place(value, cut, raw)
                    found.append((start, start + len(raw), name, events))
        if not found:
            yield value
        for _, _, name, events in found:
            before, after = _around(value, name, [spot[:3] for spot in sorted(found)])
            inner = arrays[name]
            for event in events:
                for narrower in (event,) if inner is None else inner(event):
                    yield b"%b[%b]%b" % (before, narrower, after)

    return narrow


def inside(name: str, inner: Narrow) -> Narrow:
    """Narrows the member of an object."""
    cut = member(name)

    def narrow(value: bytes) -> Iterator[bytes]:
        try:
            raw = cut(value)
            start = _place(value, cut, raw) if raw else 0
        except FAULTS:
            raw = b""
        if not raw:
            yield value
            return
        before, after = value[:start], value[start + len(raw) :]
        for narrower in inner(raw):
            yield b"%b%b%b" % (before, narrower, after)

    return narrow


def _around(value: bytes, name: str, spots: list[tuple[int, int, str]]) -> tuple[bytes, bytes]:
    """What stands before and after the array `name`, the other arrays emptied."""
    pieces: list[bytes] = []
    before = b""
    at = 0
    for start, end, other in spots:
        pieces.append(value[at:start])
        if other == name:
            before, pieces = b"".join(pieces), []
        else:
            pieces.append(b"[]")
        at = end
    return before, b"".join([*pieces, value[at:]])


def _place(value: bytes, cut: Callable[[bytes], bytes], raw: bytes) -> int:
    """Where in an object the member stands that `cut` finds. The same bytes may stand elsewhere, in a text or another
    member: the right place is the one that changes the member when it is changed.

    Raises:
        ValueError: too many places look alike.
    """
    start = value.find(raw)
    if value.find(raw, start + 1) < 0:  # forwards, which is linear; `rfind` is not
        return start
    for _ in range(_PLACES):
        changed = value[:start] + b"0" + value[start + len(raw) :]
        try:
            if cut(changed) == b"0":
                return start
        except FAULTS:  # not a whole value that stands here
            pass
        start = value.find(raw, start + 1)
        if start < 0:
            break
    raise ValueError("the member cannot be told from what looks like it")


def member(name: str) -> Callable[[bytes], bytes]:
    """Cuts a member out of an object, exactly as it stands there; b"" where it is absent. Raises `FAULTS`."""
    field = [("member", msgspec.Raw, msgspec.Raw())]
    holder: Any = msgspec.defstruct("Holder", field, rename={"member": name}, gc=False)
    decode = msgspec.json.Decoder(holder).decode
    return lambda value: bytes(decode(value).member)


class _Count(threading.local):
    """How many elements an array of this thread may still have."""

    left = 0


def objects_of(having: tuple[str, ...]) -> Callable[[bytes], list[bytes]]:
    """Cuts an array of at most `MOST_ITEMS` objects, each with the members `having`, into slices. Raises `FAULTS`:
    before anything is kept of an array that is longer, or of anything else.
    """
    count = _Count()

    def one_more(_element: object) -> None:
        count.left -= 1
        if count.left < 0:
            raise ValueError(f"expected at most {MOST_ITEMS} elements")

    fields = [(f"f{index}", msgspec.Raw) for index in range(len(having))]
    element: Any = msgspec.defstruct(
        "Element",
        fields,
        rename={f"f{index}": name for index, name in enumerate(having)},
        namespace={"__post_init__": one_more},
        gc=False,
    )
    check = msgspec.json.Decoder(list[element]).decode
    cut = msgspec.json.Decoder(list[msgspec.Raw]).decode

    def slices(array: bytes) -> list[bytes]:
        count.left = MOST_ITEMS
        check(array)
        return [bytes(slice) for slice in cut(array)]

    return slices
