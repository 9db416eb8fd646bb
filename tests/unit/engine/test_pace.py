"""The pace against databases of several kinds, in simulation."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from executor.engine.pace import FORTH, WINDOW, Pace


def windows(pace: Pace, count: int, seconds: float) -> None:
    for _ in range(count * WINDOW):
        pace.observe(seconds)


def test_a_database_that_slows_is_given_less_and_then_more_again() -> None:
    pace = Pace(256, 8)
    windows(pace, 5, 0.004)
    assert pace.limit == 256
    windows(pace, 1, 0.4)
    assert pace.limit == 179
    windows(pace, 20, 0.4)
    assert pace.limit == 8
    windows(pace, FORTH, 0.005)
    assert pace.limit == 256


def test_what_is_no_slower_than_large_batches_are_is_no_reason() -> None:
    pace = Pace(256, 8)
    windows(pace, 5, 0.001)
    windows(pace, 50, 0.05)
    assert pace.limit == 256


def test_a_database_that_was_always_slow_is_used_in_full() -> None:
    pace = Pace(64, 4)
    windows(pace, 30, 0.3)
    assert pace.limit == 64


def test_single_slow_commits_do_not_count() -> None:
    chance = random.Random(1)
    pace = Pace(256, 8)
    for _ in range(2000):
        pace.observe(2.0 if chance.random() < 0.2 else 0.004)
    assert pace.limit == 256


def test_a_database_that_is_slower_for_good_is_used_in_full_at_last() -> None:
    """It ends at the limit that it begins with: the memory of better days fades."""
    pace = Pace(100, 10)
    windows(pace, 5, 0.03)
    windows(pace, 300, 0.2)
    assert pace.limit == 100


@given(st.lists(st.floats(0, 10), max_size=500), st.integers(1, 500), st.integers(1, 500))
@settings(max_examples=100)
def test_it_stays_within_its_bounds(times: list[float], most: int, least: int) -> None:
    pace = Pace(most, least)
    for seconds in times:
        pace.observe(seconds)
        assert min(least, most) <= pace.limit <= most
