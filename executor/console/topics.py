"""What is passed on to watchers, and to whom: pure bookkeeping, without a clock or a connection.

A topic is a run or a workspace. Its watchers get every fact after their own place, once and in order: whoever joins has
read the log up to the topic's place or further, and a topic passes on all facts after its place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from events.live import Cursor

P = TypeVar("P", int, Cursor)
"""A place: a version in a run, a cursor in the log."""

MOST_WAITING = 256
"""Messages that may wait for a watcher before it is cut."""


class Watcher(Generic[P]):
    """One who watches. `place`: up to which it was given facts; `cut`: it was too slow, and gets no more."""

    def __init__(self, place: P) -> None:
        self.place: P = place
        self.cut = False
        self._waiting: deque[bytes] = deque()
        self._bell = asyncio.Event()

    def give(self, message: bytes, upto: P) -> None:
        """A message with all facts after `place` up to `upto`."""
        if self.cut:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.cut = True
            self._waiting.clear()
        else:
            self._waiting.append(message)
            self.place = upto
        self._bell.set()

    def end(self) -> None:
        """It gets no more, and is told at once."""
        self.cut = True
        self._waiting.clear()
        self._bell.set()

    async def take(self, patience: float) -> bytes | None:
        """The next message; None if there is none within so many seconds, or it was cut."""
        if not self._waiting and not self.cut:
            self._bell.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._bell.wait()
            except TimeoutError:
                return None
        return self._waiting.popleft() if self._waiting else None


class Topic(Generic[P]):
    """Who watches one thing.

    Args:
        at: up to which its facts were passed on.
        write: makes a message of facts, and of the place up to which they are all there are.
    """

    def __init__(self, at: P, write: Callable[[P, Sequence[msgspec.Raw]], bytes]) -> None:
        self.at: P = at
        self.write: Callable[[P, Sequence[msgspec.Raw]], bytes] = write
        self.watchers: set[Watcher[P]] = set()

    def join(self, watcher: Watcher[P]) -> bool:
        """Adds a watcher; False if it has to read on first."""
        if watcher.place < self.at:
            return False
        self.watchers.add(watcher)
        return True

    def pass_on(self, facts: Sequence[tuple[P, msgspec.Raw]], upto: P) -> None:
        """These are all facts up to `upto` from `at` or an earlier place on."""
        new = [(place, fact) for place, fact in facts if place > self.at]
        self.at = max(self.at, upto)
        if not new:
            return
        whole = self.write(self.at, [fact for _, fact in new])
        for watcher in self.watchers:
            if watcher.place < new[0][0]:
                watcher.give(whole, self.at)
            elif some := [fact for place, fact in new if place > watcher.place]:
                watcher.give(self.write(self.at, some), self.at)
