"""Awaitables of which the first step was taken, to see whether there is anything to wait for at all.

steps = something().__await__()
try:
    step = next(steps)          # runs until it has to wait
except StopIteration as done:
    done.value                  # it had not to: there is the result, and no watch or timer was needed
else:
    await Begun(steps, step)    # goes on where it waits
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Begun(Generic[Result]):
    """Goes on with `steps` when what they wait for first, `step`, is there. To be awaited once, at once."""

    def __init__(self, steps: Generator[Any, Any, Result], step: object) -> None:
        self._steps = steps
        self._step = step

    def __await__(self) -> Generator[Any, Any, Result]:
        step = self._step
        try:
            while True:
                try:
                    answer = yield step
                except BaseException as error:  # cancelled, for one: that is for whoever waits inside
                    step = self._steps.throw(error)
                else:
                    step = self._steps.send(answer)
        except StopIteration as done:
            result: Result = done.value
            return result


async def at_hand(result: Result) -> Result:
    """What is here already, for those who await."""
    return result
