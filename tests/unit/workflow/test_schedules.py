"""When schedules fire, across changes of the clock, and what is made up for."""

from __future__ import annotations

import math
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import ConfigError
from executor.workflow.graph import compile_workflow, parse_workflow
from executor.workflow.schedules import COUNTED, MOST_FIRINGS, Schedule, Turn, next_time, schedule_faults, turn
from executor.workflow.triggers import Triggers


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def times(schedule: Schedule, first: str, count: int) -> list[str]:
    """The times after `first`, as wall time with the zone's offset."""
    found: list[str] = []
    now = at(first)
    for _ in range(count):
        due = next_time(schedule, now)
        found += turn(schedule, due, due).firings
        now = due
    return found


def test_a_time_is_one_of_the_zone() -> None:
    assert times(Schedule("0 7 * * 1", "Europe/Berlin"), "2026-03-20T00:00:00Z", 2) == [
        "2026-03-23T07:00:00+01:00",
        "2026-03-30T07:00:00+02:00",
    ]


def test_a_time_that_the_clock_jumps_over_fires_once_at_the_jump() -> None:
    night = Schedule("30 2 * * *", "Europe/Berlin")
    assert times(night, "2026-03-28T12:00:00Z", 2) == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    several = Schedule("0,15,30 2 * * *", "Europe/Berlin")
    assert times(several, "2026-03-28T12:00:00Z", 2) == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"]


@pytest.mark.parametrize("asked", ["2026-10-24T12:00:00Z", "2026-10-25T00:10:00Z"])
def test_a_time_that_the_clock_shows_twice_fires_the_first_time(asked: str) -> None:
    night = Schedule("30 2 * * *", "Europe/Berlin")
    assert times(night, asked, 2) == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]


def test_between_the_two_the_next_one_is_tomorrows() -> None:
    """01:15 UTC is the second 02:15."""
    night = Schedule("30 2 * * *", "Europe/Berlin")
    assert times(night, "2026-10-25T01:15:00Z", 1) == ["2026-10-26T02:30:00+01:00"]


def test_a_schedule_by_the_minute_goes_by_the_time_that_passes() -> None:
    quarter = Schedule("*/30 * * * *", "Europe/Berlin")
    assert times(quarter, "2026-10-24T23:45:00Z", 5) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]
    assert times(quarter, "2026-03-29T00:40:00Z", 2) == ["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"]


HOURLY = Schedule("0 * * * *")
DUE, NOW = at("2026-06-01T10:00:00Z"), at("2026-06-01T13:00:30Z")
LATER = at("2026-06-01T14:00:00Z")


def hourly(catch_up: Any, now: float = NOW) -> Turn:
    return turn(Schedule("0 * * * *", "UTC", catch_up), DUE, now)


def test_what_is_due_fires_once_and_misses_nothing() -> None:
    for catch_up in ("skip", "last", "all"):
        found = hourly(catch_up, DUE + 5)
        assert found == Turn(("2026-06-01T10:00:00+00:00",), 0, at("2026-06-01T11:00:00Z"))


def test_the_last_one_stands_for_those_before() -> None:
    assert hourly("last") == Turn(("2026-06-01T13:00:00+00:00",), 3, LATER)


def test_all_are_made_up_for() -> None:
    hours = tuple(f"2026-06-01T{hour}:00:00+00:00" for hour in (10, 11, 12, 13))
    assert hourly("all") == Turn(hours, 0, LATER)


def test_late_ones_are_dropped_and_one_in_time_is_not() -> None:
    assert hourly("skip", NOW + 60) == Turn((), 4, LATER)
    assert hourly("skip") == Turn(("2026-06-01T13:00:00+00:00",), 3, LATER)


def test_all_are_a_hundred_at_most_the_latest() -> None:
    found = turn(Schedule("* * * * *", "UTC", "all"), NOW - 3600 * 5 - 30, NOW)
    assert len(found.firings) == MOST_FIRINGS
    assert (found.firings[-1], found.missed) == ("2026-06-01T13:00:00+00:00", 201)
    assert found.next_at == NOW + 30


def test_years_of_minutes_are_counted_up_to_a_bound() -> None:
    found = turn(Schedule("* * * * *", "Asia/Kolkata", "last"), at("1990-01-01T00:00:00Z"), NOW)
    assert (found.firings, found.missed) == (("2026-06-01T18:30:00+05:30",), COUNTED)


def test_a_rare_time_is_made_up_for_however_late() -> None:
    found = turn(Schedule("0 0 29 2 *"), at("2020-02-29T00:00:00Z"), NOW)
    assert (found.firings, found.missed) == (("2024-02-29T00:00:00+00:00",), 1)


def test_what_was_due_fires_though_the_expression_does_not_say_so_any_more() -> None:
    found = turn(HOURLY, DUE + 600, DUE + 700)
    assert found.firings == ("2026-06-01T10:10:00+00:00",)


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Tehran")
FIELD = st.sampled_from(["*", "*/7", "0", "2", "1,3", "2-3"])


@settings(max_examples=150, deadline=None)
@given(FIELD, FIELD, st.sampled_from(ZONES), st.floats(1.6e9, 1.9e9))
def test_times_go_on_and_how_often_they_are_asked_for_changes_none(
    minute: str, hour: str, tz: str, start: float
) -> None:
    schedule = Schedule(f"{minute} {hour} * * *", tz, "all")
    first = next_time(schedule, start)
    found = [first]
    for _ in range(20):
        found.append(next_time(schedule, found[-1]))
    assert all(a < b for a, b in pairwise([start, *found]))
    at_once = turn(schedule, first, found[-1])
    one_by_one = [text for time in found for text in turn(schedule, time, time).firings]
    assert list(at_once.firings) == one_by_one


def faults(expression: str, tz: str = "UTC") -> dict[str, str]:
    return dict(schedule_faults(expression, tz))


@pytest.mark.parametrize("expression", ["0 7 * * 1", "*/5 9-17 * * MON-FRI", "0 0 L * *", "0 0 29 2 *", "0 0 * * 1#2"])
def test_what_is_cron_is_taken(expression: str) -> None:
    assert faults(expression, "Europe/Berlin") == {}


@pytest.mark.parametrize(
    "expression",
    ["", "@daily", "* * * *", "* * * * * *", "60 * * * *", "0 7 * * ²", "0 0 30 2 *", "0 0 31 2,4 *", "0 " * 300],
)
def test_what_is_no_cron_or_never_comes_is_refused(expression: str) -> None:
    assert list(faults(expression)) == ["schedule"]


@pytest.mark.parametrize(
    "tz",
    ["Europe/Berln", "../etc/passwd", "/etc/localtime", "Europe", "localtime", "posix/UTC", "x" * 999, "ä"],
)
def test_what_is_no_zone_is_refused(tz: str) -> None:
    assert list(faults("0 7 * * *", tz)) == ["tz"]


def test_a_zone_that_is_nearly_one_is_told() -> None:
    assert "did you mean Europe/Berlin?" in faults("0 7 * * *", "Europe/Berln")["tz"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("0123456789*/-,#LWMONFEB", min_size=1, max_size=8), min_size=5, max_size=5))
def test_any_text_is_cron_or_refused(fields: list[str]) -> None:
    expression = " ".join(fields)
    if not faults(expression):
        assert next_time(Schedule(expression), 0.0) < math.inf


def document(*on: Any) -> dict[str, Any]:
    return {"workflow": "weekly", "on": list(on), "nodes": {"a": {"uses": "transform", "with": {"value": 1}}}}


@pytest.mark.parametrize(
    ("trigger", "fault"),
    [
        ({"schedule": "0 7 * *"}, "on[0].schedule: expected five cron fields such as \"0 7 * * 1\", got '0 7 * *'"),
        *(({"schedule": value}, "on[0].schedule: expected cron") for value in (7, None, "", " ", ["0 7 * * 1"])),
        ({"schedule": "0 7 * * 1", "tz": "Mars"}, "on[0].tz: expected a time zone"),
        ({"schedule": "0 7 * * 1", "catch_up": "some"}, "on[0].catch_up: expected one of skip, last, all"),
        ({"schedule": "0 7 * * 1", "source": "shop"}, "on[0].source: expected schedule, tz, catch_up alone"),
        ({"schedule": "0 7 * * 1", "if": "true"}, "on[0].if: expected schedule, tz, catch_up alone"),
        ({"source": "shop", "tz": "UTC"}, "on[0].tz: expected it beside schedule"),
        ({"source": "schedule"}, "on[0].source: expected a source of events, got the clock"),
    ],
)
def test_a_wrong_trigger_is_told(trigger: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_workflow(document(trigger))
    assert [one for one in error.value.faults if one.startswith(fault)] == error.value.faults


def test_a_schedule_stands_once_in_each_zone() -> None:
    weekly = {"schedule": "0 7 * * 1"}
    parse_workflow(document(weekly, {**weekly, "tz": "Europe/Berlin"}))
    with pytest.raises(ConfigError, match="each schedule once"):
        parse_workflow(document(weekly, {"schedule": " 0  7 * * 1", "catch_up": "all"}))


def test_a_schedule_starts_its_own_workflow_and_is_drawn_as_it_is_written() -> None:
    own = compile_workflow(parse_workflow(document({"schedule": "0 7 * * 1", "tz": "Europe/Berlin"})), b"1")
    other = compile_workflow(parse_workflow({**document({"schedule": "0 7 * * 1"}), "workflow": "other"}), b"2")
    event = {"source": "schedule", "type": "weekly", "body": {}}
    assert Triggers([own, other]).match(event, "weekly").wanted == (own,)
    assert Triggers([own, other]).match(event).wanted == (own,)
    assert own.triggers[0].glob == "0 7 * * 1 Europe/Berlin"
