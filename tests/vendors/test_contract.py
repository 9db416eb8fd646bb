"""Each provider's preset and its vendor's own SDK agree: on what is genuine, and on all that was tampered with."""

from __future__ import annotations

import time
from functools import cache

import pytest

from ingest.providers import PRESETS
from ingest.verify.base import Verified
from tests.vendors.by_documentation import BY_DOCUMENTATION
from tests.vendors.by_node import BY_NODE
from tests.vendors.by_sdk import BY_SDK
from tests.vendors.nodes import Judge
from tests.vendors.vendor import Accepts, Case, Delivery, OnNode, Vendor, cases, ours

VENDORS = [*BY_SDK, *BY_NODE, *BY_DOCUMENTATION]
SOME_TIME = 1_772_445_600.0
NAMES = [(vendor, case.name) for vendor in VENDORS for case in cases(vendor, SOME_TIME)]
JUDGED = [(vendor, name) for vendor, name in NAMES if vendor.accepts is not None]
LASTING = 10.0
"""Seconds for which a matrix is kept. The SDKs in Python look at the clock, and any limit lies half a minute away."""


def named(value: object) -> str:
    return value.name if isinstance(value, Vendor) else str(value)


@cache
def matrix(name: str, now: float) -> dict[str, Case]:
    (vendor,) = [vendor for vendor in VENDORS if vendor.name == name]
    return {case.name: case for case in cases(vendor, now)}


@pytest.mark.parametrize(("vendor", "name"), NAMES, ids=named)
def test_only_what_the_vendor_has_signed_passes(vendor: Vendor, name: str) -> None:
    case = matrix(vendor.name, SOME_TIME)[name]
    verdict = ours(vendor, case.delivery, SOME_TIME)
    assert isinstance(verdict, Verified) is case.passes, verdict


@pytest.mark.parametrize(("vendor", "name"), JUDGED, ids=named)
def test_the_vendor_s_own_sdk_says_the_same(vendor: Vendor, name: str, request: pytest.FixtureRequest) -> None:
    now = time.time() // LASTING * LASTING
    case = matrix(vendor.name, now)[name]
    match vendor.accepts:
        case OnNode() as asked:
            node: Judge = request.getfixturevalue("node")
            said = node.accepts(asked, case.delivery, vendor.pasted or vendor.secret, now)
        case accepts:
            assert accepts is not None
            said = passes(accepts, case.delivery)
    quarrel = vendor.quarrels.get(name)
    assert said is (case.passes if quarrel is None else not case.passes), quarrel


def passes(accepts: Accepts, delivery: Delivery) -> bool:
    """The verdict of an SDK in Python; most say no by an exception, some by whatever exception they run into."""
    try:
        return accepts(delivery)
    except ImportError:
        raise
    except Exception:
        return False


@pytest.mark.parametrize("vendor", VENDORS, ids=named)
def test_every_quarrel_is_about_a_case(vendor: Vendor) -> None:
    assert set(vendor.quarrels) <= set(matrix(vendor.name, SOME_TIME))


def test_every_provider_that_signs_is_in_the_contract() -> None:
    assert {vendor.preset for vendor in VENDORS} == set(PRESETS) - {"generic", "none"}
