# mypy: disable-error-code="import-not-found, untyped-decorator"
"""Three durable no-op steps in DBOS; runs in the peers' own environment, with DBOS's defaults.

    python dbos_app.py URL

Each line of its input, `IN_FLIGHT COUNT`, is answered by one line of JSON: runs a second and latencies. A run begins
with the call of its workflow in this process and ends when that returns; there is no HTTP before it. The functions are
synchronous and called in threads: that was faster than asynchronous ones, with 1 in flight and with 64.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS


@DBOS.step()
def noop() -> None:
    """Does nothing, durably."""


@DBOS.workflow()
def three() -> None:
    """Three steps, each noted before the next begins."""
    noop()
    noop()
    noop()


def one(_number: int) -> float:
    """Seconds that a run takes."""
    began = time.perf_counter()
    three()
    return time.perf_counter() - began


def measure(in_flight: int, count: int) -> dict[str, float]:
    """`count` runs, `in_flight` at a time."""
    with ThreadPoolExecutor(in_flight) as threads:
        began = time.perf_counter()
        seconds = sorted(threads.map(one, range(count)))
        elapsed = time.perf_counter() - began
    return {"rps": count / elapsed, "p50_s": seconds[count // 2]}


def main(url: str) -> None:
    """Serves measurements until the input ends."""
    DBOS(config={"name": "peer", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()
    for line in sys.stdin:
        in_flight, count = map(int, line.split())
        print(json.dumps(measure(in_flight, count)), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1])
