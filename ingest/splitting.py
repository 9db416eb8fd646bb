"""A delivery that carries many events falls into logical events, each a body of its own.

Promises: pure, never raises; what does not have the expected shape is not split, and is stored whole all the same. The
receipt keeps the exact bytes; an item's body is the exact slice of them where the event stands by itself in an array,
or the sender's document with that one event left in it, every other byte as it was, where the event needs its
surroundings. Time and memory are proportional to the body: there are at most `MOST_ITEMS` items, all of them objects,
and they come to `most_bytes` at most, though they repeat their surroundings.
"""

from __future__ import annotations

from collections.abc import Callable

from ingest.narrowing import FAULTS, MOST_ITEMS, Narrow, inside, member, objects_of, one_of
from ingest.pointers import pointer_tokens

__all__ = ["MOST_ITEMS", "Split", "elements", "meta", "most_bytes", "narrowed", "pointed"]

Split = Callable[[bytes], list[bytes] | None]
"""From a decoded body to the items' bodies; None: not a batch in the expected form."""


def most_bytes(body: bytes) -> int:
    """What the items of a body may come to together."""
    return 2 * len(body) + (1 << 20)


def elements(having: tuple[str, ...] = ()) -> Split:
    """The body is an array of events. One element is a batch too, so that workflows always see one shape.

    Args:
        having: members that every element must have for the array to be a batch.
    """
    slices = objects_of(having)

    def split(body: bytes) -> list[bytes] | None:
        try:
            return slices(body) or None
        except FAULTS:
            return None

    return split


def pointed(pointer: str) -> Split:
    """The array at a JSON Pointer (RFC 6901) holds the events; its tokens are names of members. "": see `elements`.

    Raises:
        ValueError: it is not a pointer.
    """
    if not pointer:
        return elements()
    cuts = [member(name) for name in pointer_tokens(pointer)]
    slices = objects_of(())

    def split(body: bytes) -> list[bytes] | None:
        try:
            for cut in cuts:
                body = cut(body)
            return slices(body) or None
        except FAULTS:
            return None

    return split


def narrowed(pointer: str) -> Split:
    """The array at a JSON Pointer that ends in `/*` holds the events: `/notificationItems/*`. Each item is the document
    with one element left in that array. With a single one, the document is its own item and is not split.

    Raises:
        ValueError: it is not a pointer, or does not end in `/*`.
    """
    if not pointer.endswith("/*"):
        raise ValueError(f"expected a JSON Pointer that ends in /*, got {pointer!r}")
    *above, last = pointer_tokens(pointer[:-2])
    narrow = one_of({last: None})
    for name in reversed(above):
        narrow = inside(name, narrow)
    return _documents(narrow)


def meta() -> Split:
    """Meta's webhooks: `entry[]`, in each `changes[]` (for WhatsApp each `value.messages[]` and `value.statuses[]` in
    them), or `messaging[]` and `standby[]` (Messenger, Instagram). Each item is the document with just one left.
    """
    change = inside("value", one_of({"messages": None, "statuses": None}))
    return _documents(one_of({"entry": one_of({"changes": change, "messaging": None, "standby": None})}))


def _documents(narrow: Narrow) -> Split:
    def split(body: bytes) -> list[bytes] | None:
        room = most_bytes(body)
        items: list[bytes] = []
        try:
            for item in narrow(body):
                room -= len(item)
                if room < 0 or len(items) == MOST_ITEMS:
                    return None
                items.append(item)
        except FAULTS:
            return None
        return items if len(items) > 1 else None

    return split
