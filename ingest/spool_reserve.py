"""Room on the spool's disk for the one thing that must go on when it is full: to empty the spool, which writes too.

A file of SIZE bytes lies beside the spool's. When the disk is full and rows are to be forgotten, it is removed; until
it can be made again nothing new is kept, or that would take the room. It is made again only where as much is left
beside it, so that it does not come and go.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import structlog

SIZE = 16 << 20
"""Bytes: what forgetting the largest batch of a drain writes to SQLite's log, table and indices, generously."""

_log = structlog.get_logger(__name__)


def free(directory: Path) -> int:
    """Bytes that this process may still write to the disk."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


class Reserve:
    """The file. It belongs to the spool's thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "reserve"
        self._there = self._path.exists() and self._path.stat().st_size >= SIZE

    def ready(self) -> bool:
        """Whether it is there; makes it where it is not and the disk has room."""
        if not self._there:
            with contextlib.suppress(OSError):
                self._there = free(self._directory) >= 2 * SIZE and self._made()
        return self._there

    def release(self) -> bool:
        """Gives the room away; False where that was done before."""
        if not self._there:
            return False
        self._there = False
        self._path.unlink(missing_ok=True)
        _log.warning("spool.disk_full", reserve="released to empty the spool", meanwhile="nothing new is kept there")
        return True

    def _made(self) -> bool:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE)
        except OSError:
            self._path.unlink()
            raise
        finally:
            os.close(descriptor)
        return True
