"""Room for bodies: one budget, in bytes, for all that one process holds, from the first byte until the answer is sent.

What it promises:
- All bodies together never hold more than the budget, those that wait for the log included, and what they are copied
  into. One delivery at a time may go beyond it with its copies, so that none is turned away for ever.
- Nobody keeps others out. A body that came whole may use whatever is free, and a quarter is always there for it; small
  ones that come in pieces (their senders decide how long that takes) share a quarter; large ones share a half.
- A large body has room for all of it before any of it is read on, so that no two wait for each other half read.
- Large bodies wait first come, first served, for a bounded time; then, or when a small one finds no room, `Crowded`.
- The usual case costs an addition and a subtraction.

A body of at most `SMALL` bytes is small. The caller gives back what it took, with `leave`, once.
"""

from __future__ import annotations

import asyncio
from collections import deque

from events.errors import ConfigError, Overloaded

SMALL = 64 << 10
"""Bytes that a small body has at most."""

PATIENCE = 10.0
"""Seconds that a large body waits for room, default; most senders hang up about then."""


class Crowded(Overloaded):
    """There is no room for this body now. A 503: the sender comes again."""


class Room:
    """The budget of one process.

    Args:
        total: bytes for all bodies together.
        largest: bytes of the largest body; at most half of `total`, which is what large bodies share.
        patience: seconds that a large body waits for room.

    Raises:
        ConfigError: `largest` would never find room.
    """

    def __init__(self, total: int, largest: int, *, patience: float = PATIENCE) -> None:
        if largest > total // 2:
            fault = f"body_memory: expected at least twice body_limit ({2 * largest} bytes), got {total}"
            raise ConfigError("settings", [f"{fault}; raise it, or lower body_limit"])
        self.used = 0
        """Bytes taken by all bodies."""
        self._total = total
        self._large = 0
        self._most_large = total // 2
        self._pieces = 0
        self._copies = 0
        self._most_pieces = total // 4
        self._patience = patience
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many large bodies wait for room."""
        return len(self._queue)

    def take(self, size: int) -> None:
        """Room for a small body that is here as a whole.

        Raises:
            Crowded: there is none.
        """
        if self.used + size > self._total:
            raise Crowded(f"bodies hold {self.used} of {self._total} bytes already")
        self.used += size

    def leave(self, size: int) -> None:
        """Gives back the room of a body of this size, however it was got."""
        self.used -= size
        if size > SMALL:
            self._large -= size
        if self._queue:
            self._admit()

    def take_piece(self, size: int) -> None:
        """Room for a piece of a small body whose other pieces are still to come.

        Raises:
            Crowded: those who send piece by piece hold their share already.
        """
        if self._pieces + size > self._most_pieces:
            raise Crowded(f"bodies that come in pieces hold {self._pieces} of {self._most_pieces} bytes already")
        self.take(size)
        self._pieces += size

    def complete(self, size: int) -> None:
        """The pieces, of this size together, are a whole small body from now on: `leave` gives its room back."""
        self._pieces -= size

    def leave_pieces(self, size: int) -> None:
        """Gives back the room of pieces that will never be whole, or get room as a large body."""
        self._pieces -= size
        self.leave_small(size)

    def leave_small(self, size: int) -> None:
        """Gives back room that was never a large body's, whatever its size."""
        self.used -= size
        if self._queue:
            self._admit()

    async def reserve(self, size: int) -> None:
        """Room for a large body, after all who came before.

        Raises:
            Crowded: there was none in time.
        """
        if not self._queue and self._fits(size):
            self._grant(size)
            return
        granted = asyncio.get_running_loop().create_future()
        entry = (size, granted)
        self._queue.append(entry)
        try:
            async with asyncio.timeout(self._patience):
                await granted
        except BaseException as error:
            if granted.done() and not granted.cancelled():  # it came while this one was leaving
                self.unreserve(size)
            else:
                self._queue.remove(entry)
                self._admit()  # it may have been the one that the next was waiting behind
            if isinstance(error, TimeoutError):
                raise Crowded(f"no room for {size} bytes within {self._patience:g} s") from None
            raise

    def reserve_now(self, size: int) -> None:
        """The same without waiting, for whoever holds room already: who holds and waits can wait for itself.

        Raises:
            Crowded: there is none.
        """
        if not self._fits(size):
            raise Crowded(f"large bodies hold {self._large} of {self._most_large} bytes already")
        self._grant(size)

    def copy(self, held: int, size: int) -> None:
        """Room for `size` bytes of one delivery's copies, where it has `held` so far; less gives the rest back.

        Raises:
            Crowded: there is none, and others have copies too.
        """
        more = size - held
        if more > 0 and self.used + more > self._total and self._copies > held:
            raise Crowded(f"bodies and copies hold {self.used} of {self._total} bytes already")
        self._copies += more
        self.leave_small(-more)

    def unreserve(self, size: int) -> None:
        """Gives back what was reserved, or a part of it that is not needed after all."""
        self._large -= size
        self.leave_small(size)

    def _fits(self, size: int) -> bool:
        return self._large + size <= self._most_large and self.used + size <= self._total

    def _grant(self, size: int) -> None:
        self._large += size
        self.used += size

    def _admit(self) -> None:
        while self._queue and (self._queue[0][1].cancelled() or self._fits(self._queue[0][0])):
            size, granted = self._queue[0]
            if granted.cancelled():
                return  # its task takes it out of the queue, and comes here again
            self._queue.popleft()
            self._grant(size)
            granted.set_result(None)


class Copies:
    """What one delivery is copied into, within a `with`: it gives back what it holds in the end."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = 0

    def hold(self, size: int) -> None:
        """So many bytes from now on. Raises as `Room.copy`."""
        if size != self._held:
            self._room.copy(self._held, size)
            self._held = size

    def __enter__(self) -> Copies:
        return self

    def __exit__(self, *_how: object) -> None:
        self.hold(0)
