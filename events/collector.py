"""Python's garbage collector, told what a long-lived process is like.

What was loaded at start stays for good: it is frozen, so that no full collection walks over it again (47 ms of stall
each, once a second under load). What requests and runs make is freed by reference counting; only cycles are left to the
collector, and looking for them every 700 objects costs 2 % of an ingest process.
"""

from __future__ import annotations

import gc

YOUNG = 20_000
"""Objects made beyond those freed before the youngest generation is looked at; Python's own is 700."""


def settle() -> None:
    """Call once, when everything is loaded and before work comes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)
