"""A worker whose engine loop runs under cProfile; on SIGTERM it writes the busiest functions to the given file."""

from __future__ import annotations

import cProfile
import io
import os
import pstats
import signal
import sys
import threading
from pathlib import Path

from events.settings import load_settings
from events.telemetry import NoTelemetry
from executor.worker.app import WorkerProcess


def main(path: str) -> None:
    worker = WorkerProcess(load_settings(os.environ), ["webhook"], NoTelemetry())
    worker.start()
    profile, ended = cProfile.Profile(), threading.Event()
    worker.call_in_loop(profile.enable)
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    worker.call_in_loop(profile.disable)
    worker.stop()
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(35)
    Path(path).write_text(text.getvalue())


if __name__ == "__main__":
    main(sys.argv[1])
