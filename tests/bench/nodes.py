"""The node of the benchmarks: it has an effect as far as the engine knows, and does nothing but tell the time."""

from __future__ import annotations

import time

from executor import node


@node("bench.noop")
async def noop() -> float:
    """Unix seconds when it ran."""
    return time.time()
