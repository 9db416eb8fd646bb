"""The parsers' targets hold for their seeds, for parts of them, and for a few changes: the same ones every time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import atheris_runs
from tests.fuzz.parsers import TARGETS
from tests.fuzz.test_forgeries import short


@pytest.mark.parametrize("name", list(TARGETS))
def test_the_seeds_hold(name: str) -> None:
    check, seeds = TARGETS[name]
    for seed in [b"", *seeds]:
        check(seed)
        check(seed[: len(seed) // 2])


@pytest.mark.parametrize("name", list(TARGETS))
@short
@given(data=st.data())
def test_changed_seeds_hold(name: str, data: st.DataObject) -> None:
    check, seeds = TARGETS[name]
    seed = data.draw(st.sampled_from(seeds))
    start = data.draw(st.integers(0, len(seed)))
    check(seed[:start] + data.draw(st.binary(max_size=8)) + seed[start + data.draw(st.integers(0, 8)) :])


def test_every_target_is_run_under_atheris() -> None:
    assert set(atheris_runs.TARGETS) == set(TARGETS)
