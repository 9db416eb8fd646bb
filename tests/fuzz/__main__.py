"""`make fuzz`: the properties of this folder for as long as they are given, with other examples every time.

    python -m tests.fuzz [SECONDS]

Half of the time goes to requests (hypothesis), half to the parsers (atheris, where it is installed: the extra `fuzz`).
Prints what was executed and what was found, each finding by its smallest example; ends with 1 if there was any.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ingest.verify.base import Verified
from tests.fuzz.atheris_runs import fuzz_parsers
from tests.fuzz.making import altered, signable, unsigned_requests
from tests.fuzz.properties import NOW, check_forgery, check_stranger, judge, target
from tests.fuzz.service import Service, check_signed, check_unsigned
from tests.fuzz.signers import signed
from tests.fuzz.sources import NAMES
from tests.services import Services

BATCH = 40
"""Examples of one property for one source before the next has its turn."""
MEMORY = 8 << 30
"""Bytes of addresses; the service and the examples need far less, so more is a finding."""

Property = Callable[[str, st.DataObject], None]


def fuzz_requests(seconds: float, service: Service) -> Counter[str]:
    """Runs the properties in turn until the time is over; how many examples of each."""
    counts: Counter[str] = Counter()

    def genuine(name: str, data: st.DataObject) -> None:
        counts["signed, as they were"] += 1
        raw, which = data.draw(signable()), data.draw(st.integers(0, 7))
        door = target(name)
        assert isinstance(judge(door, signed(door.scheme, raw, door.site, NOW, which)), Verified)

    def forged(name: str, data: st.DataObject) -> None:
        counts["signed, then altered"] += 1
        raw, which = data.draw(signable()), data.draw(st.integers(0, 7))
        door = target(name)
        original = signed(door.scheme, raw, door.site, NOW, which)
        now = NOW + data.draw(st.sampled_from([0, 0, 0, 299, -299, 301, -301, 90_000, -90_000]))
        if check_forgery(door, original, data.draw(altered(original)), now):
            counts["… of these passed, nothing signed being altered"] += 1

    def stranger(name: str, data: st.DataObject) -> None:
        counts["by nobody"] += 1
        check_stranger(target(name), data.draw(unsigned_requests()))

    def served(name: str, data: st.DataObject) -> None:
        counts["through the service"] += 1
        check_signed(service, name, data)
        check_unsigned(service, name, data.draw(unsigned_requests()))

    end = time.monotonic() + seconds
    properties: list[Property] = [genuine, forged, forged, stranger, served]
    for name in itertools.cycle(random.sample(NAMES, len(NAMES))):
        for property in properties:
            if time.monotonic() > end:
                return counts
            _batch(name, property)
    raise AssertionError("there are sources")


def _batch(name: str, property: Property) -> None:
    @seed(random.getrandbits(64))
    @settings(
        database=None,
        deadline=None,
        max_examples=BATCH,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def run(data: Any) -> None:
        property(name, data)

    run()


def main() -> int:
    """0 if nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=300.0)
    seconds = parser.parse_args().seconds
    warnings.filterwarnings("ignore", "Do not use the .random. module")  # the service's thread does
    services = Services(os.environ)
    try:
        with services.database() as url, Service(url, services.redis_database()) as service:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
            for what, count in fuzz_requests(seconds / 2, service).items():
                print(f"{count:>9,}  requests {what}", flush=True)
    finally:
        services.close()
    findings = fuzz_parsers(seconds / 2)
    if findings:
        print(f"findings in: {', '.join(findings)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
