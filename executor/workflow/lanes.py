"""What becomes of deliveries that may not simply start a run each: `key`, `concurrency`, `debounce` and the like.

    step(lane, pending, active=…, recent=…, now=…)

A lane is all that shares one key of one workflow (or the workflow, without a key). What waits in it goes through three
gates, in this order: it is gathered (`debounce` or `batch`), let through (`throttle`), and given a place (`key`,
`concurrency`). Pure: the caller reads what waits, what is active and what started lately in one look, and carries out
the step in one commit; a look that is repeated after a crash comes to the same or to what has changed since.

Promises, each a property test: every request is started once or settled once with a reason; no more runs are active
than `concurrency` says (one with `replace`), and no place stays empty while somebody waits for it; no window of
`throttle` holds more starts than its limit; `due` is never later than the next thing that time alone brings about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal
from uuid import UUID

import msgspec

Then = Literal["wait", "skip", "replace", "parallel"]
MOST_LIMIT = 1_000
"""The largest `throttle.limit` and `batch.size`."""
MOST_BYTES = 5_000_000
"""Bytes of bodies that a batch holds; one delivery may be larger, and then is a batch of its own."""
PAGE = MOST_LIMIT + 1
"""How many requests one look needs to see: a whole batch, and that it is whole."""


class Debounce(msgspec.Struct, frozen=True):
    """One run, for the last delivery, once none came for `quiet` seconds, or `at_most` after the first."""

    quiet: float
    at_most: float


class Throttle(msgspec.Struct, frozen=True):
    """At most `limit` starts in any `per` seconds; the rest start later."""

    limit: int
    per: float


class Batch(msgspec.Struct, frozen=True):
    """One run for `size` deliveries, or for what came within `within` seconds of the first."""

    size: int
    within: float


class Lane(msgspec.Struct, frozen=True):
    """What a workflow says of its lanes. Without `key` and `concurrency` everything may run side by side (`parallel`);
    else `concurrency` runs may.
    """

    then: Then = "parallel"
    concurrency: int = 1
    debounce: Debounce | None = None
    throttle: Throttle | None = None
    batch: Batch | None = None


class Pending(msgspec.Struct, frozen=True):
    """A request to start a run: its place, the delivery that asks, when it came (Unix seconds), its body's bytes."""

    seq: int
    delivery_id: UUID
    at: float
    size: int = 0


class Settled(msgspec.Struct, frozen=True):
    """A request that comes to no run of its own, and why."""

    request: Pending
    reason: str


class Step(msgspec.Struct, frozen=True):
    """What to do now.

    Args:
        starts: the runs to start, each for these requests; the last one's delivery is the run's own.
        settled: requests that come to nothing.
        cancel: active runs to be cancelled, because a newer delivery takes their place.
        due: when to look again if nobody tells anything (Unix seconds; infinity: not by itself).
        left: how many of the requests that were seen still wait.
    """

    starts: tuple[tuple[Pending, ...], ...]
    settled: tuple[Settled, ...]
    cancel: tuple[UUID, ...]
    due: float
    left: int


class _Group(msgspec.Struct, frozen=True):
    """Requests that make one run. `ready`: when it is complete."""

    requests: tuple[Pending, ...]
    ready: float


def step(
    lane: Lane,
    pending: Sequence[Pending],
    *,
    active: Sequence[UUID],
    recent: Sequence[float],
    now: float,
    more: bool = False,
) -> Step:
    """Decides.

    Args:
        pending: the first requests, in their order, at most `PAGE`.
        active: the lane's runs that have not ended.
        recent: when the lane's latest runs started, newest first, as many as `throttle.limit`.
        more: whether there are more requests than those.
    """
    settled: list[Settled] = []
    groups = list(_gathered(lane, pending, settled, more))
    ready = [group for group in groups if group.ready <= now]
    due = min((group.ready for group in groups if group.ready > now), default=math.inf)
    room, free = _room(lane.throttle, recent, now), max(0, lane.concurrency - len(active))
    starts: list[_Group] = []
    cancel: tuple[UUID, ...] = ()
    match lane.then:
        case "parallel":
            starts, free = ready[:room], len(ready)
        case "wait":
            starts = ready[: min(room, free)]
        case "skip":
            starts = ready[: min(room, free)]
            if ready and len(starts) == free:  # the place is taken; a throttle that is closed is waited for
                taken = str(active[-1]) if active else f"of delivery {ready[0].requests[-1].delivery_id}"
                for group in ready[len(starts) :]:
                    settled += _settled(group, f"run {taken} of this key is active")
        case "replace":
            for group in ready[:-1]:
                settled += _settled(group, f"superseded by delivery {ready[-1].requests[-1].delivery_id}")
            ready = ready[-1:]
            if room and ready and active:
                cancel = tuple(active)
            starts = ready[:room] if not active else []
    places = 1 if lane.then == "replace" else free
    if len(starts) < len(ready) and room <= len(starts) < places:
        due = min(due, _opens(lane.throttle, recent, len(starts), now))
    if more and (starts or settled):
        due = now
    consumed = sum(len(group.requests) for group in starts) + len(settled)
    left = len(pending) - consumed
    return Step(
        tuple(group.requests for group in starts), tuple(settled), cancel, due if left or more else math.inf, left
    )


def _gathered(lane: Lane, pending: Sequence[Pending], settled: list[Settled], more: bool) -> Iterator[_Group]:
    """The runs that the requests make, complete or not; what a later one stands for is settled."""
    if lane.debounce is not None:
        yield from _bursts(lane.debounce, pending, settled, more)
    elif lane.batch is not None:
        yield from _batches(lane.batch, pending)
    else:
        for request in pending:
            yield _Group((request,), request.at)


def _bursts(debounce: Debounce, pending: Sequence[Pending], settled: list[Settled], more: bool) -> Iterator[_Group]:
    start = 0
    while start < len(pending):
        first = pending[start]
        end, fires = start + 1, min(first.at + debounce.quiet, first.at + debounce.at_most)
        while end < len(pending) and pending[end].at < fires:
            fires = min(max(fires, pending[end].at + debounce.quiet), first.at + debounce.at_most)
            end += 1
        last = pending[end - 1]
        if end == len(pending) and more:  # the burst goes on out of sight: its two ends say all that there is to it
            settled += [Settled(one, _after(last)) for one in pending[start + 1 : end - 1]]
            yield _Group((first,), math.inf)
            if last is not first:
                yield _Group((last,), math.inf)
            return
        yield _Group(tuple(pending[start:end]), fires)
        start = end


def _batches(batch: Batch, pending: Sequence[Pending]) -> Iterator[_Group]:
    held: list[Pending] = []
    size = 0
    for request in pending:
        closed = held and (
            len(held) == batch.size or size + request.size > MOST_BYTES or request.at >= held[0].at + batch.within
        )
        if closed:
            yield _Group(tuple(held), held[-1].at)
            held, size = [], 0
        held.append(request)
        size += request.size
    if held:
        whole = len(held) == batch.size
        yield _Group(tuple(held), held[-1].at if whole else held[0].at + batch.within)


def _settled(group: _Group, reason: str) -> list[Settled]:
    return [Settled(request, reason) for request in group.requests]


def _after(last: Pending) -> str:
    return f"debounced: delivery {last.delivery_id} came after it"


def _room(throttle: Throttle | None, recent: Sequence[float], now: float) -> int:
    """How many runs may start now."""
    if throttle is None:
        return PAGE
    return throttle.limit - sum(at + throttle.per > now for at in recent[: throttle.limit])


def _opens(throttle: Throttle | None, recent: Sequence[float], started: int, now: float) -> float:
    """When the next run may start after `started` more have now: as soon as the limit-th last start is out of the
    window.
    """
    if throttle is None:
        return now
    starts = [now] * started + list(recent)
    if len(starts) < throttle.limit:
        return now
    return max(now, starts[throttle.limit - 1] + throttle.per)
