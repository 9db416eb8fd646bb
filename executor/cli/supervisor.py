"""Headrace's own processes on this machine: started together, restarted when one dies, stopped in order.

The directory holds their settings (`dev.toml`, private), their logs, and a lock that they all hold, so that
two supervisors never run on one directory. They die with us, however we die; since every one of them may be
killed at any moment, they are not asked first then.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from events.errors import HeadraceError, Unavailable
from events.types import QUEUES
from executor.cli.children import Child, claim, last_lines
from executor.cli.files import make_directory, write_private

CONFIG = "dev.toml"
LOOK = 0.05
"""Seconds between two looks at the processes."""
READY = 30.0
"""Seconds that a process gets to be ready."""
STEADY = 10.0
"""Seconds that a process has to live for its next death to count as its first."""
_CLAIM_PATIENCE = 6.0  # the processes of a supervisor that was killed a moment ago need time to go

Value = str | int | float | Sequence[str]


class _Process:
    """One process by name: what it is started as, what its log says when it is ready, its present child."""

    def __init__(self, name: str, arguments: Sequence[str], ready: str, directory: Path) -> None:
        self.name = name
        self.log = directory / "logs" / f"{name}.log"
        self._arguments = arguments
        self._ready = ready.encode()
        self._log_start = 0
        self.child: Child | None = None
        self.started_at = 0.0
        self.deaths = 0
        self.restart_at: float | None = None

    def start(self, lock: int, environ: Mapping[str, str]) -> None:
        """Starts it; see `ready` for when it is of use."""
        self.restart_at, self.started_at = None, time.monotonic()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, "-m", "executor.cli.main", *self._arguments]
        self.child = Child(command, log=self.log, lock=lock, death_signal=signal.SIGKILL, environ=environ)

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.alive

    def ready(self) -> bool:
        """Whether it has said so since its start."""
        if not self.log.exists():
            return False
        with open(self.log, "rb") as log:
            log.seek(self._log_start if self.log.stat().st_size >= self._log_start else 0)
            return self._ready in log.read()


class Supervisor:
    """The processes of one system, as a context manager: entering takes the directory, leaving stops all.

    Args:
        directory: for settings, logs and the lock; made if need be.
        say: told, in a sentence, when a process died and when it is back.

    Raises (on entering):
        HeadraceError: another supervisor has the directory.
    """

    def __init__(self, directory: Path, say: Callable[[str], None] = lambda text: None) -> None:
        self.directory = directory.absolute()
        self.config = self.directory / CONFIG
        self._say = say
        self._environ: Mapping[str, str] = {}
        self._processes: dict[str, _Process] = {}
        self._lock: int | None = None
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="supervisor", daemon=True)

    def __enter__(self) -> Supervisor:
        make_directory(self.directory, 0o755 if os.geteuid() == 0 else 0o700)
        pid = self.directory / "pid"
        self._lock = claim(self.directory, 0.2 if _runs(pid) else _CLAIM_PATIENCE)
        if self._lock is None:
            whose = f" (pid {pid.read_text().strip()})" if pid.exists() else ""
            raise HeadraceError(f"{self.directory}: in use by another headrace{whose}; stop that one first")
        write_private(pid, f"{os.getpid()}\n")
        return self

    def __exit__(self, *_failure: object) -> None:
        try:
            self.stop()
        finally:
            if self._lock is not None:
                (self.directory / "pid").unlink(missing_ok=True)
                os.close(self._lock)

    def configure(self, settings: Mapping[str, Value], environ: Mapping[str, str]) -> None:
        """Writes the settings of all processes.

        Args:
            environ: their environment; what it says about a setting that is given here is left out.
        """
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items()]
        write_private(
            self.config,
            "# Written at every start. `headrace` commands in this directory read it.\n" + "".join(lines),
        )
        ours = {"HEADRACE_CONFIG"} | {f"HEADRACE_{name.upper()}{end}" for name in settings for end in ("", "_FILE")}
        kept = {name: value for name, value in environ.items() if name not in ours}
        self._environ = {**kept, "HEADRACE_CONFIG": str(self.config)}

    def start(self, queues: Sequence[str] = QUEUES, *, console: bool = False) -> None:
        """Starts ingest, the relay, a worker for each queue, and the console if wanted; returns when all are ready.

        Raises:
            Unavailable: one of them ended, or is not ready in time; the message ends with its log.
        """
        make_directory(self.directory / "logs")
        specs = [("ingest", ["ingest"], "ingest.listening"), ("relay", ["relay"], "relay.started")]
        specs += [(f"worker-{queue}", ["worker", "--queue", queue], "worker.started") for queue in queues]
        specs += [("console", ["console"], "console.listening")] if console else []
        for name, arguments, ready in specs:
            self._processes[name] = process = _Process(name, arguments, ready, self.directory)
            self._start(process)
        for process in self._processes.values():
            self._await(process)
        self._keeper.start()

    def pid(self, name: str) -> int:
        """The process id of `ingest`, `relay` or `worker-<queue>`; 0 while it is not there."""
        process = self._processes[name]
        return process.child.pid if process.child is not None and process.alive else 0

    def kill(self, name: str) -> int:
        """Ends a process by SIGKILL, as a crash would, and answers its pid. It is restarted soon."""
        process = self._processes[name]
        assert process.child is not None
        process.child.end(signal.SIGKILL, 5.0)
        return process.child.pid

    def stop(self) -> None:
        """Stops everything: first what takes work in, then what carries it out. Twice is harmless."""
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()
        workers = [process for name, process in self._processes.items() if name.startswith("worker")]
        others = [process for process in self._processes.values() if process not in workers]
        for group in (others, workers):
            if group:
                with ThreadPoolExecutor(len(group)) as pool:
                    list(pool.map(_end, group))

    def _start(self, process: _Process) -> None:
        assert self._lock is not None
        process.start(self._lock, self._environ)

    def _await(self, process: _Process) -> None:
        deadline = time.monotonic() + READY
        while not process.ready():
            if not process.alive or time.monotonic() > deadline:
                what = "is not ready" if process.alive else "ended"
                raise Unavailable(f"{process.name} {what}; the end of {process.log}:\n{last_lines(process.log)}")
            time.sleep(LOOK)

    def _keep(self) -> None:
        while not self._stopping.wait(LOOK):
            for process in self._processes.values():
                if not process.alive:
                    self._revive(process)

    def _revive(self, process: _Process) -> None:
        now = time.monotonic()
        if process.restart_at is None:
            process.deaths = 0 if now - process.started_at > STEADY else process.deaths + 1
            pause = min(0.1 * 2**process.deaths, 10.0)
            process.restart_at = now + pause
            self._say(f"{process.name} ended; it is started again in {pause:.1f} s")
        elif now >= process.restart_at:
            with contextlib.suppress(OSError):  # no memory for a process, say: the next look tries again
                self._start(process)
                self._say(f"{process.name} is back (pid {self.pid(process.name)})")


def _end(process: _Process) -> None:
    if process.child is not None and not process.child.end(signal.SIGTERM, 20.0):
        process.child.end(signal.SIGKILL, 5.0)


def _runs(pid: Path) -> bool:
    """Whether the process of a pid file is there: only to know how long to wait for its lock."""
    try:
        os.kill(int(pid.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True
