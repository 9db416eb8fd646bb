"""Each provider's preset and its vendor's own SDK agree: on what is genuine, and on all that was tampered with."""

from __future__ import annotations

import time

import pytest

from ingest.providers import PRESETS
from ingest.verify.base import Verified
from tests.vendors.by_documentation import BY_DOCUMENTATION
from tests.vendors.by_node import BY_NODE
from tests.vendors.by_sdk import BY_SDK
from tests.vendors.nodes import Judge
from tests.vendors.vendor import Accepts, Case, Delivery, OnNode, Vendor, cases, ours

VENDORS = [*BY_SDK, *BY_NODE, *BY_DOCUMENTATION]
NOW = time.time()
"""Once for the run: the SDKs in Python look at the clock, and what they are asked lies minutes from any limit."""

MATRIX = [(vendor, case) for vendor in VENDORS for case in cases(vendor, NOW)]
JUDGED = [(vendor, case) for vendor, case in MATRIX if vendor.accepts is not None]


def named(value: object) -> str:
    assert isinstance(value, Vendor | Case)
    return value.name


@pytest.mark.parametrize(("vendor", "case"), MATRIX, ids=named)
def test_only_what_the_vendor_has_signed_passes(vendor: Vendor, case: Case) -> None:
    verdict = ours(vendor, case.delivery, NOW)
    assert isinstance(verdict, Verified) is case.passes, verdict


@pytest.mark.parametrize(("vendor", "case"), JUDGED, ids=named)
def test_the_vendor_s_own_sdk_says_the_same(vendor: Vendor, case: Case, request: pytest.FixtureRequest) -> None:
    match vendor.accepts:
        case OnNode() as asked:
            node: Judge = request.getfixturevalue("node")
            said = node.accepts(asked, case.delivery, vendor.pasted or vendor.secret, NOW)
        case accepts:
            assert accepts is not None
            said = passes(accepts, case.delivery)
    quarrel = vendor.quarrels.get(case.name)
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
    assert set(vendor.quarrels) <= {case.name for case in cases(vendor, NOW)}


def test_every_provider_that_signs_is_in_the_contract() -> None:
    assert {vendor.preset for vendor in VENDORS} == set(PRESETS) - {"generic", "none"}
