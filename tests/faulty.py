"""Runs a `headrace` command with faults at named points: `python -m tests.faulty FAULTS COMMAND …`.

FAULTS is a comma-separated list of `point@n=action` or `point=action` (every time), where a point may be narrowed to a
detail (`node.before:second@1=kill`), and an action is `kill` (SIGKILL to this process), `stop` (SIGSTOP) or `raise`.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable

from events import faults
from executor.cli.main import main


def act(action: str) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.3)  # the whole process stops, but not before this thread could go on a little
        case "raise":
            raise RuntimeError("a fault was injected")
        case _:
            raise SystemExit(f"expected kill, stop or raise, got {action!r}")


def fault(spec: str) -> None:
    where, _, action = spec.partition("=")
    place, _, nth = where.partition("@")
    point, _, detail = place.partition(":")
    passes = itertools.count(1)

    def at(here: str) -> None:
        if (not detail or detail == here) and (number := next(passes)) and (not nth or number == int(nth)):
            act(action)

    installed: Callable[[str], None] = at
    faults.install(point, installed)


if __name__ == "__main__":
    for spec in filter(None, sys.argv.pop(1).split(",")):
        fault(spec)
    main()
