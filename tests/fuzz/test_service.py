"""Through the real service on a real log: what is signed is taken whatever it is, and nothing ends in a 500.

A short run, the same every time; `make fuzz` runs the same properties for as long as it is told to.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.making import signable, unsigned_requests
from tests.fuzz.raw import Raw
from tests.fuzz.service import Service, check_signed, check_unsigned, in_pieces
from tests.fuzz.sources import NAMES
from tests.fuzz.test_forgeries import short
from tests.services import Services

# The service's own thread draws random numbers of its own meanwhile, which Hypothesis takes for the strategies'.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module:Warning")


@pytest.fixture(scope="module")
def service(services: Services) -> Iterator[Service]:
    with services.database() as url, Service(url, services.redis_database()) as service:
        yield service


@pytest.mark.parametrize("name", NAMES)
@short
@given(data=st.data())
def test_whatever_a_sender_signs_is_stored_as_it_came(service: Service, name: str, data: st.DataObject) -> None:
    check_signed(service, name, data)


@pytest.mark.parametrize("name", NAMES)
@short
@given(raw=unsigned_requests())
def test_whatever_anybody_sends_is_no_fault_of_ours(service: Service, name: str, raw: Raw) -> None:
    check_unsigned(service, name, raw)


@short
@given(raw=signable(), pieces=st.integers(1, 6), stop_after=st.integers(0, 6))
def test_who_goes_away_while_sending_is_not_stored(service: Service, raw: Raw, pieces: int, stop_after: int) -> None:
    answered = service.ask("none", raw, pieces, stop_after)
    assert answered.status == (202 if stop_after >= len(in_pieces(raw.body, pieces)) else 0)


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1])
@pytest.mark.parametrize("pieces", [1, 7])
def test_the_limit_is_exact(service: Service, size: int, pieces: int) -> None:
    assert service.ask("none", Raw(bytes(size)), pieces).status == (202 if size == 1 << 20 else 413)


@pytest.mark.parametrize("slug", ["nobody", "", "a/b", "../none", "%00", "☸", "x" * 5000])
def test_what_is_no_source_is_not_found(service: Service, slug: str) -> None:
    assert service.ask(slug, Raw(b"{}")).status == 404
