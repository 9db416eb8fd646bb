"""What the embedded servers have in common: a directory, its lock, a password, a port, and the running child.

Password and port are kept in the directory. The port may change between two instances, when something else
has taken it; it never changes during one, because clients know it by then.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

from events.errors import HeadraceError, Unavailable
from executor.cli.children import Child, claim, free_port, last_lines, port_is_free
from executor.cli.files import password, write_private

_START_PATIENCE = 60.0  # seconds; recovery after a crash is part of a start
_CLAIM_PATIENCE = 6.0  # PostgreSQL gives its processes 5 s to follow SIGQUIT
_PORT_PATIENCE = 10.0


class Server:
    """What both servers share: directory, lock, password, port, and the child."""

    kind = ""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory.absolute()
        self._fixed = port != 0  # once clients may know the port it cannot change any more
        self._port = port
        self._password = ""
        self._child: Child | None = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; 0 before the first start unless one was asked for."""
        return self._port

    @property
    def pid(self) -> int:
        """The server's process id; 0 while it does not run."""
        return self._child.pid if self._child and self._child.alive else 0

    def _claim(self, home: Path) -> int:
        lock = claim(home, _CLAIM_PATIENCE)
        if lock is None:
            raise HeadraceError(
                f"{self.directory}: a {self.kind} server runs on this directory already, and a data "
                "directory is never shared; stop that server or choose another directory"
            )
        return lock

    def _remember(self, home: Path, uid: int | None) -> None:
        """Settles password and port, and keeps both in `home`."""
        self._password = password(home / "password", uid)
        file = home / "port"
        if not self._port and file.exists() and port_is_free(int(file.read_text())):
            self._port = int(file.read_text())
        if self._fixed and not port_is_free(self._port, _PORT_PATIENCE):
            raise Unavailable(f"{self.kind}: expected port {self._port} to be free, but something else listens there")
        if not self._fixed and not (self._port and port_is_free(self._port)):
            self._port = free_port()
        write_private(file, str(self._port))

    def _await(self, child: Child, log: Path) -> None:
        """Returns when the server takes connections; ends it and raises when it will not."""
        deadline = time.monotonic() + _START_PATIENCE
        try:
            while not self._ready(child):
                if not child.alive or time.monotonic() > deadline:
                    raise Unavailable(f"{self.kind} did not start; the end of {log}:\n{last_lines(log)}")
                time.sleep(0.01)
        except BaseException:  # Ctrl-C among them
            child.end(signal.SIGKILL, 5.0)
            raise
        self._child, self._fixed = child, True

    def _ready(self, child: Child) -> bool:
        raise NotImplementedError

    def _end(self, how: signal.Signals, patience: float) -> None:
        if self._child and not self._child.end(how, patience) and not self._child.end(signal.SIGKILL, 5.0):
            raise Unavailable(f"{self.kind}: process {self._child.pid} does not end, even by SIGKILL")
        self._child = None
