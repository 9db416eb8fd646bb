"""Server processes of ours that never outlive us, never hear the terminal, and never share a directory.

A `Child` runs in a session of its own, so Ctrl-C reaches only us, and we decide the order of the end. On
Linux the kernel signals it when we die, even by SIGKILL (PR_SET_PDEATHSIG). Elsewhere a parent that is killed
leaves it running; its lock then makes the next start say so. `claim` is that lock: an flock that the server
and everything it forks inherit, so it is free exactly when none of them is left, whatever a stale pid file
says.

The file is also the small program that a child begins as (`python -I -S children.py …`): the death signal
must be asked for after the change of user, which clears it, and `preexec_fn` is not safe beside threads. It
stands on the standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOOPBACK = "127.0.0.1"


class Child:
    """One running server process. `pid` is the server's own: the starter program becomes it by exec.

    The thread that starts a child also waits for it, for two reasons: the kernel ties the death signal to the
    thread that forked, which therefore must live as long as the child; and a dead child is reaped at once.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        lock: int,
        death_signal: signal.Signals,
        uid: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Starts `command`, output appended to `log`, holding the descriptor `lock` (which the caller may
        then close).

        `death_signal` is what it gets when we die. With `uid` (we must be root) it runs as that user and
        group. `environ` is its environment; None: ours.

        Raises:
            OSError: no process could be made.
        """
        if log.exists() and log.stat().st_size > 10 << 20:
            log.unlink()
        starter = [
            sys.executable,
            "-I",
            "-S",
            __file__,
            str(os.getpid()),
            str(int(death_signal)),
            str(-1 if uid is None else uid),
        ]
        self._command = [*starter, *map(str, command)]
        self._log, self._lock, self._environ = log, lock, environ
        self._spawned, self._ended = threading.Event(), threading.Event()
        self._fault: Exception | None = None
        self.pid = 0
        threading.Thread(target=self._live, name=f"child {command[0]}", daemon=True).start()
        self._spawned.wait()
        if self._fault:
            raise self._fault

    def _live(self) -> None:
        try:
            with open(self._log, "ab", opener=_private) as output:
                process = subprocess.Popen(  # noqa: S603
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=(self._lock,),
                    env=self._environ,
                )
            self.pid = process.pid
        except Exception as error:  # the caller is waiting and raises it
            self._fault = error
        self._spawned.set()
        if not self._fault:
            process.wait()
        self._ended.set()

    @property
    def alive(self) -> bool:
        """Whether it still runs. Asks the system: the waiting thread may not have been told yet."""
        if self._ended.is_set():
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # that thread has collected it just now
            return False

    def end(self, how: signal.Signals, patience: float) -> bool:
        """Signals it and waits up to `patience` seconds; True once it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
                os.kill(self.pid, how)
        return self._ended.wait(patience)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def claim(directory: Path, patience: float) -> int | None:
    """A descriptor that holds the lock of `directory`, or None if another holds it for longer than `patience`
    seconds.

    The wait is for the servers of a parent that was killed a moment ago: they are told at once but need time
    to go.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                return None
            time.sleep(0.05)
        else:
            return descriptor


def port_is_free(port: int, patience: float = 0.0) -> bool:
    """Whether a server could listen on this loopback port now, or within `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_LOOPBACK, port))
                probe.listen()
            except OSError:
                if time.monotonic() > deadline:
                    return False
            else:
                return True
        time.sleep(0.05)


def free_port() -> int:
    """A loopback port that the system says is free."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def last_lines(log: Path, count: int = 8) -> str:
    """The end of a server's log, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except OSError:
        return "(no log)"


def _become(parent: int, death_signal: int, uid: int, command: list[str]) -> None:
    """What a child does first: change user, tie itself to its parent, become the server."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before the kernel knew whom to tell
            sys.exit("the parent process is gone")
    os.umask(0o077)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
