"""For every preset: nothing that anybody sends raises, what its sender signed passes, and nothing else does.

A short run, the same every time; `make fuzz` runs the same properties for as long as it is told to.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.verify.base import Verified
from tests.fuzz.making import altered, signable, unsigned_requests
from tests.fuzz.properties import NOW, check_forgery, check_stranger, judge, target
from tests.fuzz.raw import Raw
from tests.fuzz.signers import signed
from tests.fuzz.sources import NAMES

short = settings(
    derandomize=True, database=None, deadline=None, max_examples=20, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("name", NAMES)
@short
@given(raw=signable(), which=st.integers(0, 7))
def test_what_was_signed_passes(name: str, raw: Raw, which: int) -> None:
    door = target(name)
    genuine = signed(door.scheme, raw, door.site, NOW, which)
    assert isinstance(judge(door, genuine), Verified), genuine


@pytest.mark.parametrize("name", NAMES)
@short
@given(data=st.data(), raw=signable(), which=st.integers(0, 7))
def test_what_was_altered_passes_only_where_nothing_signed_was(
    name: str, data: st.DataObject, raw: Raw, which: int
) -> None:
    door = target(name)
    genuine = signed(door.scheme, raw, door.site, NOW, which)
    check_forgery(door, genuine, data.draw(altered(genuine)))


@pytest.mark.parametrize("name", NAMES)
@short
@given(raw=unsigned_requests())
def test_what_nobody_signed_never_passes(name: str, raw: Raw) -> None:
    check_stranger(target(name), raw)
