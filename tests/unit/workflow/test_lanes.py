"""Lanes, told any story: nothing is lost or started twice, limits hold, and nobody waits without a time or a reason."""

from __future__ import annotations

import itertools
import math
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import ConfigError
from executor.workflow.graph import compile_workflow, parse_workflow
from executor.workflow.lanes import MOST_BYTES, PAGE, Batch, Debounce, Lane, Pending, Throttle, step

throttles = st.none() | st.builds(Throttle, st.integers(1, 3), st.sampled_from([1.0, 5.0]))
gathers = st.one_of(
    st.none(),
    st.builds(Debounce, st.sampled_from([1.0, 2.0]), st.sampled_from([3.0, 4.0])),
    st.builds(Batch, st.integers(1, 3), st.sampled_from([1.0, 3.0])),
)
lanes = st.builds(
    lambda then, concurrency, gather, throttle: Lane(
        then,
        concurrency if then in ("wait", "skip") else 1,
        gather if isinstance(gather, Debounce) else None,
        throttle,
        gather if isinstance(gather, Batch) else None,
    ),
    st.sampled_from(["wait", "skip", "replace", "parallel"]),
    st.integers(1, 3),
    gathers,
    throttles,
)
gaps = st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 6.0]), min_size=1, max_size=12)
lengths = st.lists(st.sampled_from([0.0, 0.4, 1.5, 7.0]), min_size=12, max_size=12)


class Story:
    """A lane whose holder looks when it is told to, and only then."""

    def __init__(self, lane: Lane, arrivals: list[float], lengths: list[float], page: int) -> None:
        self.lane, self.page = lane, page
        self.coming = [Pending(n, UUID(int=n), at) for n, at in enumerate(arrivals, 1)]
        self.waiting: list[Pending] = []
        self.active: dict[UUID, float] = {}
        self.starts: list[tuple[float, tuple[Pending, ...]]] = []
        self.settled: list[Pending] = []
        self._lengths = itertools.cycle(lengths)
        self._ids = itertools.count(1000)

    def play(self) -> None:
        due = math.inf
        for _ in range(1_000):
            moments = [due, *(one.at for one in self.coming[:1]), *self.active.values()]
            now = min(moments)
            if now == math.inf:
                return
            while self.coming and self.coming[0].at <= now:
                self.waiting.append(self.coming.pop(0))
            for id in [id for id, end in self.active.items() if end <= now]:
                del self.active[id]
            due = self.look(now)
            assert due == math.inf or due >= now
        raise AssertionError("it goes in circles")

    def look(self, now: float) -> float:
        recent = [at for at, _ in reversed(self.starts)]
        page, more = self.waiting[: self.page], len(self.waiting) > self.page
        found = step(self.lane, page, active=list(self.active), recent=recent, now=now, more=more)
        for group in found.starts:
            self.starts.append((now, group))
            self.active[UUID(int=next(self._ids))] = now + next(self._lengths)
            for one in group:
                self.waiting.remove(one)
        for each in found.settled:
            self.settled.append(each.request)
            self.waiting.remove(each.request)
            assert each.reason
        assert found.left == len(page) - sum(map(len, found.starts)) - len(found.settled)
        for id in found.cancel:
            self.active[id] = min(self.active[id], now + 0.2)
        if self.lane.then != "parallel":
            assert len(self.active) <= self.lane.concurrency
            idle = self.lane.then == "wait" and not self.lane.throttle and len(self.active) < self.lane.concurrency
            if idle and not (self.lane.debounce or self.lane.batch):
                assert not self.waiting  # no place stays empty while somebody waits
        return found.due


@settings(max_examples=400, deadline=None)
@given(lanes, gaps, lengths, st.sampled_from([4, PAGE]))
def test_every_request_starts_once_or_is_settled_once(
    lane: Lane, gaps: list[float], lengths: list[float], page: int
) -> None:
    arrivals = list(itertools.accumulate(gaps))
    story = Story(lane, arrivals, lengths, page)
    story.play()
    started = [one.seq for _, group in story.starts for one in group]
    assert story.waiting == []
    assert sorted([*started, *(one.seq for one in story.settled)]) == list(range(1, len(arrivals) + 1))
    assert started == sorted(started)
    if lane.then in ("wait", "parallel") and lane.debounce is None:
        assert story.settled == []


@settings(max_examples=300, deadline=None)
@given(lanes.filter(lambda lane: lane.throttle is not None), gaps, lengths)
def test_no_window_holds_more_starts_than_the_limit(lane: Lane, gaps: list[float], lengths: list[float]) -> None:
    story = Story(lane, list(itertools.accumulate(gaps)), lengths, PAGE)
    story.play()
    assert lane.throttle is not None
    times = [at for at, _ in story.starts]
    for first, last in zip(times, times[lane.throttle.limit :], strict=False):
        assert first + lane.throttle.per <= last


@settings(max_examples=200, deadline=None)
@given(gaps)
def test_a_debounced_run_comes_after_the_quiet_or_after_the_longest_time(gaps: list[float]) -> None:
    lane = Lane(debounce=Debounce(1.0, 3.0))
    story = Story(lane, list(itertools.accumulate(gaps)), [0.0], PAGE)
    story.play()
    for now, group in story.starts:
        assert now == min(group[-1].at + 1.0, group[0].at + 3.0)


def pending(*at: float, size: int = 0) -> list[Pending]:
    return [Pending(n, UUID(int=n), one, size) for n, one in enumerate(at, 1)]


def test_a_batch_is_complete_by_count_by_time_and_by_bytes() -> None:
    lane = Lane(batch=Batch(2, 10.0))
    three = step(lane, pending(0, 1, 2), active=(), recent=(), now=2.0)
    assert [[one.seq for one in group] for group in three.starts] == [[1, 2]]
    assert three.due == 12.0
    assert [len(group) for group in step(lane, pending(0), active=(), recent=(), now=10.0).starts] == [1]
    large = step(Lane(batch=Batch(10, 10.0)), pending(0, 0, size=MOST_BYTES - 1), active=(), recent=(), now=0.0)
    assert [len(group) for group in large.starts] == [1]


def test_a_newer_delivery_replaces_the_active_run() -> None:
    run = UUID(int=9)
    found = step(Lane("replace"), pending(0, 1), active=(run,), recent=(), now=1.0)
    assert (found.starts, found.cancel, found.left) == ((), (run,), 1)
    assert [(one.request.seq, one.reason) for one in found.settled] == [(1, f"superseded by delivery {UUID(int=2)}")]


def test_a_burst_that_goes_on_out_of_sight_keeps_its_two_ends() -> None:
    found = step(Lane(debounce=Debounce(5.0, 60.0)), pending(0, 1, 2, 3), active=(), recent=(), now=3.0, more=True)
    assert [one.request.seq for one in found.settled] == [2, 3]
    assert (found.starts, found.due) == ((), 3.0)


BASE = {"workflow": "w", "on": [{"source": "s"}], "nodes": {"a": {"uses": "transform", "with": {"value": 1}}}}


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"key": "event.body."}, "key: "),
        ({"key": "nodes.a.output"}, "key: "),
        ({"key": {"then": "wait"}}, "key.value: expected CEL"),
        ({"key": {"value": "event.id", "then": "skpi"}}, "key.then: expected one of wait, skip, replace, parallel"),
        (
            {"debounce": {"for": "1s"}, "batch": {"size": 2, "within": "1s"}},
            "expected one of debounce and batch, got both",
        ),
        ({"debounce": {"for": "10s", "at_most": "1s"}}, "debounce.at_most: expected no less than for"),
        ({"debounce": {}}, "debounce.for: expected a duration"),
        ({"throttle": {"limit": 0, "per": "1s"}}, "throttle.limit: expected a whole number from 1 to 1000, got 0"),
        ({"throttle": {"limit": 1}}, "throttle.per: expected a duration such as 30s, 5m or 24h, got nothing"),
        ({"batch": {"size": 1001, "within": "1s"}}, "batch.size: expected a whole number from 1 to 1000"),
        ({"batch": {"size": 2, "within": "31d"}}, "batch.within: expected a duration"),
        ({"concurrency": 0}, "concurrency: expected a whole number from 1 to 1000, got 0"),
        (
            {"concurrency": 2, "key": {"value": "event.id", "then": "replace"}},
            "concurrency: expected it with then: wait",
        ),
        ({"batch": 5}, "batch: expected keys and values, got 5"),
        ({"output": "${{ events.size() }}"}, "expected events only in a workflow with batch"),
    ],
)
def test_what_is_wrong_is_told(more: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_workflow(BASE | more)
    assert fault in str(refused.value)


def test_what_is_right_is_read() -> None:
    document = BASE | {
        "key": {"value": "event.body.id", "then": "replace"},
        "throttle": {"limit": 10, "per": "1m"},
        "batch": {"size": 100, "within": 10},
        "output": "${{ events.map(e, e.body.id) }}",
    }
    graph = compile_workflow(parse_workflow(document), b"h")
    assert graph.lane == Lane("replace", 1, None, Throttle(10, 60.0), Batch(100, 10.0))
    assert graph.key is not None
    assert graph.batched
    assert compile_workflow(parse_workflow(BASE | {"key": "event.id"}), b"h").lane == Lane("wait")
    assert compile_workflow(parse_workflow(BASE | {"concurrency": 5}), b"h").lane == Lane("wait", 5)
    assert compile_workflow(parse_workflow(BASE), b"h").lane is None
