"""A delivery that carries many events falls into logical events, each a body of its own.

Promises: pure, never raises; what does not have the expected shape is not split, and is stored whole all the same. The
receipt keeps the exact bytes; an item's body is the exact slice of them where the event stands by itself in an array,
or the sender's document with that one event left in it where the event needs its surroundings.
"""

from __future__ import annotations

from collections.abc import Callable

MOST_ITEMS = 10_000
"""A delivery with more is stored whole and not split."""

Split = Callable[[bytes], list[bytes] | None]
"""From a decoded body to the items' bodies; None: not a batch in the expected form."""
