"""A look into a spool from outside, whether the process that owns it runs or not. Nothing of its rows is changed.

What is told is what the file says at one moment; a moment later rows may have left. Each function opens the file,
reads, and lets go of it, so that nothing of the owner's work waits.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import msgspec

from events.definitions import SourceRow
from events.errors import NotFound, Unavailable
from events.ids import uuid7_time
from events.types import Receipt
from ingest.remembered import NAME
from ingest.spool_place import damaged, fault
from ingest.spool_rows import Spooled, read
from ingest.spool_statements import COUNT, OLDEST, VERSION

_ROWS = "SELECT stream_id, source_id, size, refused FROM delivery WHERE refused IS NOT NULL ORDER BY seq LIMIT ?"
_ROW = "SELECT stream_id, source_id, size, refused, seq, receipt FROM delivery WHERE stream_id = ? ORDER BY seq LIMIT 1"
_WAIT = 5.0
"""Seconds that a look waits for the owner to let it in."""


class SpoolRow(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery in the spool, without what it carries.

    Args:
        received_at: Unix seconds.
        source: the slug as the spool's owner knew it last; None where it cannot be told.
        size: bytes that it takes here, packed.
        refused: why the log did not take it; None while it waits.
    """

    id: UUID
    received_at: float
    source: str | None
    source_id: int
    size: int
    refused: str | None


class SpoolLook(msgspec.Struct, frozen=True, kw_only=True):
    """How a spool stands: so many `waiting` for the log and `refused` by it, all of them of `size` bytes.

    Args:
        oldest: when the first one that waits was received, in Unix seconds; None where none waits.
        rows: the refused ones, in the order in which they came, as many as were asked for.
    """

    waiting: int
    refused: int
    size: int
    oldest: float | None
    rows: list[SpoolRow]


def look(directory: Path, limit: int) -> SpoolLook:
    """How the spool in `directory` stands, with at most `limit` of its refused rows.

    Raises:
        NotFound: there is no spool.
        ConfigError: its file is damaged or of a newer version.
        Unavailable: it cannot be read now.
    """
    with _opened(directory) as sqlite:
        if sqlite is None:
            return SpoolLook(waiting=0, refused=0, size=0, oldest=None, rows=[])
        waiting, size, refused = sqlite.execute(COUNT).fetchone()
        first = sqlite.execute(OLDEST).fetchone()
        slugs = _slugs(sqlite)
        rows = [_row(slugs, *values) for values in sqlite.execute(_ROWS, (limit,))]
    oldest = uuid7_time(UUID(bytes=first[0])) if first else None
    return SpoolLook(waiting=waiting, refused=refused, size=size, oldest=oldest, rows=rows)


def look_at(directory: Path, id: UUID) -> tuple[SpoolRow, Receipt | None]:
    """One row by its delivery's id, and what it carries; None where the disk damaged that.

    Raises:
        NotFound: there is no spool, or no such row in it.
        ConfigError: its file is damaged or of a newer version.
        Unavailable: it cannot be read now.
    """
    with _opened(directory) as sqlite:
        found = sqlite.execute(_ROW, (id.bytes,)).fetchone() if sqlite is not None else None
        if sqlite is None or found is None:
            raise NotFound(f"no delivery {id} lies in {directory}; it may be in the log by now: `headrace events {id}`")
        *values, seq, kept = found
        row = _row(_slugs(sqlite), *values)
    content = read(seq, kept)
    return row, content.receipt if isinstance(content, Spooled) else None


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[sqlite3.Connection | None]:
    """One moment of the file, to read only; None of a file that nothing was written to yet."""
    path = directory / "spool.db"
    try:
        if not path.is_file():
            raise NotFound(f"no spool lies in {directory}; expected the HEADRACE_SPOOL_DIR of an ingest process")
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_WAIT, isolation_level=None)) as sqlite:
            sqlite.execute("BEGIN")
            (version,) = sqlite.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise fault(path, f"version {VERSION}, got {version} of a newer Headrace; type the command of that one")
            yield sqlite if version else None
    except (sqlite3.OperationalError, OSError) as error:
        raise Unavailable(f"the spool {path} cannot be read: {error}; may this user read it?") from error
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from error


def _slugs(sqlite: sqlite3.Connection) -> dict[int, str]:
    found = sqlite.execute("SELECT value FROM memory WHERE name = ?", (NAME,)).fetchone()
    try:
        return {row.id: row.slug for row in msgspec.msgpack.decode(found[0], type=list[SourceRow])} if found else {}
    except msgspec.MsgspecError:
        return {}


def _row(slugs: dict[int, str], stream_id: bytes, source_id: int, size: int, refused: str | None) -> SpoolRow:
    id = UUID(bytes=stream_id)
    return SpoolRow(
        id=id,
        received_at=uuid7_time(id),
        source=slugs.get(source_id),
        source_id=source_id,
        size=size,
        refused=refused,
    )
