"""Token buckets: what is allowed, how long to wait, and that looking takes nothing."""

from __future__ import annotations

import pytest

from ingest.rates import Bucket, Buckets, retry_after


def test_a_burst_passes_and_then_the_limit_holds() -> None:
    bucket = Bucket(2, per=1.0, burst=3)
    assert [bucket.take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(10.25) == pytest.approx(0.25)
    assert bucket.take(10.5) == 0.0


def test_over_a_long_time_no_more_than_the_limit_passes() -> None:
    bucket = Bucket(5, per=60.0, burst=2)
    passed = sum(bucket.take(second * 0.5) == 0.0 for second in range(2 * 3600))
    assert 300 <= passed <= 302


def test_a_rest_fills_no_more_than_the_burst() -> None:
    bucket = Bucket(100, burst=2)
    bucket.take(0.0)
    assert [bucket.take(1e6) for _ in range(3)] == [0.0, 0.0, 0.01]


def test_looking_takes_nothing() -> None:
    bucket = Bucket(1)
    assert [bucket.peek(0.0) for _ in range(9)] == [0.0] * 9
    assert bucket.take(0.0) == 0.0
    assert bucket.peek(0.0) == 1.0
    assert bucket.peek(0.25) == 0.75


def test_the_wait_that_is_told_is_enough() -> None:
    bucket = Bucket(3, per=7.0, burst=1)
    now = 0.1
    for _ in range(1000):
        assert bucket.take(now) == 0.0
        wait = bucket.take(now)
        assert wait > 2.3
        now += wait + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(1)
    assert bucket.take(100.0) == 0.0
    assert bucket.take(50.0) == 1.0
    assert bucket.take(100.5) == 0.5


def test_less_than_one_at_once_is_still_one() -> None:
    bucket = Bucket(0.5)
    assert bucket.take(0.0) == 0.0
    assert bucket.take(0.0) == 2.0


def test_a_source_that_is_read_again_keeps_its_bucket_unless_its_terms_changed() -> None:
    buckets = Buckets()
    assert buckets.get(1, 1).take(0.0) == 0.0
    assert buckets.get(1, 1).peek(0.0) == 1.0
    assert buckets.get(2, 1).peek(0.0) == 0.0
    assert buckets.get(1, 2).peek(0.0) == 0.0
    buckets.get(2, 1).take(0.0)
    buckets.keep({1})
    assert buckets.get(2, 1).peek(0.0) == 0.0


def test_retry_after_is_whole_seconds() -> None:
    assert [retry_after(seconds) for seconds in (0.001, 1.0, 1.2, 59.9)] == [b"1", b"1", b"2", b"60"]
