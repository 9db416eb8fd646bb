"""Runs a `headrace` command under libfaketime: `python -m tests.faultrun.entry COMMAND …`.

libfaketime (0.9.10) takes the absolute monotonic time that Python 3.11 and later sleep until for a time of day, and the
sleep fails. Here `time.sleep` waits in select(2), which libfaketime leaves alone.
"""

from __future__ import annotations

import select
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex) -> None:
    """Seconds by the machine's own clock."""
    select.select([], [], [], float(seconds))


if __name__ == "__main__":
    time.sleep = sleep

    from executor.cli.main import main  # after the change, for those who import the function itself

    main()
