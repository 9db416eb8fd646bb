# mypy: disable-error-code="import-not-found, untyped-decorator"
"""Three durable no-op steps in DBOS; runs in the peers' own environment, with DBOS's defaults.

    python dbos_app.py URL

Each line of its input, `IN_FLIGHT COUNT`, is answered by one line of JSON: runs a second and latencies. A run begins
with the call of its workflow in this process and ends when that returns; there is no HTTP before it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from dbos import DBOS


@DBOS.step()
async def noop() -> None:
    """Does nothing, durably."""


@DBOS.workflow()
async def three() -> None:
    """Three steps, each noted before the next begins."""
    await noop()
    await noop()
    await noop()


async def measure(in_flight: int, count: int) -> dict[str, float]:
    """`count` runs, `in_flight` at a time."""
    left, seconds = iter(range(count)), []

    async def keep_going() -> None:
        for _ in left:
            began = time.perf_counter()
            await three()
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*[keep_going() for _ in range(in_flight)])
    seconds.sort()
    return {"rps": count / (time.perf_counter() - began), "p50_s": seconds[count // 2]}


async def main(url: str) -> None:
    """Serves measurements until the input ends."""
    DBOS(config={"name": "peer", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
    while line := await asyncio.to_thread(sys.stdin.readline):
        in_flight, count = map(int, line.split())
        print(json.dumps(await measure(in_flight, count)), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
