"""The files of an embedded server: its directory, its secrets, and a PostgreSQL cluster in it.

Whatever is made here is there in full or not at all, so that an end at any moment leaves a directory that
starts.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from events.errors import ConfigError, HeadraceError, Unavailable
from executor.cli.binaries import as_number, reachable

_NOBODY = 65534
_RELOCATED = Path("/var/lib/headrace")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary directory that embedded servers can live in, also for root: their user must be able to
    reach it."""
    with tempfile.TemporaryDirectory(prefix="headrace-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def make_directory(directory: Path, mode: int = 0o700) -> None:
    """Makes it if need be, and gives it this mode whatever the umask is."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(mode)


def write_private(path: Path, text: str, uid: int | None = None) -> None:
    """A file that only its owner can read, there in full or not at all."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if uid is not None:
        os.chown(draft, uid, uid)
    draft.replace(path)


def password(path: Path, uid: int | None) -> str:
    """The password that `path` holds; a new one the first time. The file belongs to `uid`, if not to us."""
    if not path.exists():
        write_private(path, secrets.token_hex(16), uid)
    return path.read_text().strip()


def postgres_home(directory: Path) -> tuple[Path, int | None]:
    """Where data, password and log live, and as which user the server runs (None: as we do).

    Raises:
        ConfigError: we are root, and no other user can reach any place for the data.
    """
    if os.geteuid() != 0:
        make_directory(directory)
        return directory, None
    make_directory(directory, 0o755)
    home = directory
    if not reachable(directory):  # below /root, say
        link = directory / "server"
        if not link.is_dir():
            link.unlink(missing_ok=True)
            make_directory(_RELOCATED, 0o755)
            home = Path(tempfile.mkdtemp(prefix=directory.parent.name + "-", dir=_RELOCATED))
            home.chmod(0o755)
            link.symlink_to(home)
        home = link.resolve()
        if not reachable(home):
            raise ConfigError(
                "embedded PostgreSQL",
                [f"directory: expected one that others than root can reach, got {directory}"],
            )
    data = home / "data"
    return home, (data.stat().st_uid if data.exists() else 0) or _NOBODY


def initdb(binaries: Path, home: Path, uid: int | None) -> None:
    """A new cluster in `home/data`, there in full or not at all. Its superuser's password is in
    `home/password`.

    Raises:
        Unavailable: initdb failed; the message ends with what it said.
    """
    draft = home / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if uid is not None:
        os.chown(draft, uid, uid)
    version = subprocess.run(  # noqa: S603
        [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout
    command = [
        str(binaries / "initdb"),
        f"--pgdata={draft}",
        f"--pwfile={home / 'password'}",
        *("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
    ]
    if as_number(version.split()[2].split(".")[0]) >= 17:  # older ones lack it, and order by bytes instead
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    groups: list[int] | None = None if uid is None else []
    done = subprocess.run(  # noqa: S603
        command,
        user=uid,
        group=uid,
        extra_groups=groups,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(draft, ignore_errors=True)
        said = (done.stdout + done.stderr)[-2000:]
        raise Unavailable(f"initdb ended with {done.returncode}:\n{said}")
    draft.rename(home / "data")


def forget_dead_server(data: Path) -> None:
    """Removes the pid file of a server that is gone.

    PostgreSQL would take it for alive if its number has been given to another process of the same user since.
    We hold the lock, so only a server started by other means can own it: on Linux its working directory gives
    that away; elsewhere the judgement is left to PostgreSQL.
    """
    file = data / "postmaster.pid"
    if sys.platform != "linux" or not file.exists():
        return
    pid = file.read_text().split("\n", 1)[0].strip()
    try:
        live = os.path.samefile(f"/proc/{pid}/cwd", data)
    except OSError:
        live = False
    if live:
        raise HeadraceError(f"{data}: PostgreSQL process {pid} runs on this directory already; stop it first")
    file.unlink()
