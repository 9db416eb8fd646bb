"""`make faults`: a whole Headrace under random faults for a while, then the log and the receiver are checked.

Ends with `faults: N events, N runs, N faults, 0 lost, 0 doubled, 0 stuck`; status 1 if any of the last three is not 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import uvloop

from executor.cli.embedded import scratch
from tests.faultrun.injuries import NAMES
from tests.faultrun.run import Outcome, Plan, fault_run
from tests.faultrun.world import left_out

SHOWN = 20
"""How many findings of a kind are shown."""


def main() -> int:
    """0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faultrun", description=__doc__)
    parser.add_argument("--seconds", type=float, default=270.0, help="how long events and faults come (%(default)g)")
    parser.add_argument("--events", type=int, default=5000, help="how many events (%(default)s)")
    parser.add_argument("--faults", type=int, default=130, help="how many faults (%(default)s)")
    parser.add_argument("--seed", type=int, help="repeats the schedule of a run; random if not given")
    parser.add_argument("--only", nargs="+", default=[], choices=NAMES, metavar="KIND", help=" ".join(NAMES))
    parser.add_argument("--logs", type=Path, help="a directory for the processes' logs")
    given = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    plan = Plan(seed, given.events, given.seconds, given.faults, tuple(given.only))
    print(f"seed {seed}: {plan.events:,} events and {plan.faults} faults in {plan.seconds:g} s", flush=True)
    for what in left_out():
        print(what, flush=True)
    with contextlib.suppress(asyncio.CancelledError):
        outcome = uvloop.run(_run(plan, given.logs))
        return _report(outcome, seed)
    print("ended before its time", file=sys.stderr)
    return 1


async def _run(plan: Plan, logs: Path | None) -> Outcome:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with scratch() as directory:
        try:
            return await fault_run(plan, directory, lambda what: print(what, flush=True))
        finally:
            if logs is not None:
                logs.mkdir(parents=True, exist_ok=True)
                for log in directory.glob("*.log"):
                    shutil.copy(log, logs)


def _report(outcome: Outcome, seed: int) -> int:
    verdict = outcome.verdict
    for name, count in sorted(outcome.faults.items()):
        print(f"{count:>6}  {name}")
    for note in outcome.notes:
        print(note)
    for kind, found in (("lost", verdict.lost), ("doubled", verdict.doubled), ("stuck", verdict.stuck)):
        _show(kind, found)
    if not verdict.good:
        print(f"repeat the schedule with --seed {seed}; --logs DIRECTORY keeps what the processes say")
    print(outcome.line())
    return 0 if verdict.good else 1


def _show(kind: str, found: Iterable[str]) -> None:
    for number, what in enumerate(found):
        if number == SHOWN:
            print(f"{kind}: …")
            return
        print(f"{kind}: {what}")


if __name__ == "__main__":
    sys.exit(main())
