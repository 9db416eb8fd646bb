"""The nodes of the benchmarks: they have an effect as far as the engine knows, and do nothing but tell the time, or
let it pass."""

from __future__ import annotations

import asyncio
import time

from executor import node


@node("bench.noop")
async def noop() -> float:
    """Unix seconds when it ran."""
    return time.time()


@node("bench.pause")
async def pause(seconds: float) -> float:
    """Waits; Unix seconds when it began."""
    began = time.time()
    await asyncio.sleep(seconds)
    return began
