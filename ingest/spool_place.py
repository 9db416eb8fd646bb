"""The spool's directory: made durable, owned by one process, and what is wrong with it said in words.

The lock is flock(2) on a file of its own: it ends with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from events.errors import ConfigError


def own(directory: Path) -> int:
    """Makes the directory and takes its lock, which is the descriptor returned.

    Raises:
        ConfigError: another process has it.
        OSError: it cannot be made or written.
    """
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True)
        sync(directory.parent)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        expected = "a directory of this process alone, got one that another process uses"
        raise fault(directory, f"{expected}; give each ingest process a spool_dir of its own") from None
    return descriptor


def sync(directory: Path) -> None:
    """A name in a directory lasts once the directory is synced."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turns what goes wrong when a spool is opened into a ConfigError that says what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:  # full, read-only, not permitted
        raise fault(directory, f"a disk that takes writes, got: {error}") from error
    except sqlite3.DatabaseError as error:
        raise damaged(directory / "spool.db", str(error)) from error
    except OSError as error:
        raise fault(directory, f"a directory that this process may write to, got: {error.strerror}") from error


def damaged(path: Path, answer: str) -> ConfigError:
    """A file that SQLite finds unsound."""
    what_to_do = f"save what can be saved with `sqlite3 {path.name} .recover`, or move the directory away"
    return fault(
        path,
        f"a sound file, got: {' '.join(answer.split())}. It may hold acknowledged deliveries, so it stays as it is: "
        f"{what_to_do}, then start again",
    )


def fault(path: Path, expected: str) -> ConfigError:
    """A ConfigError about a path."""
    return ConfigError("spool", [f"{path}: expected {expected}"])
