"""The spool's file: SQLite in WAL mode with full sync, in a directory that one process owns.

Everything here blocks and belongs to one thread, the spool's (`ingest.spool`). What it promises:

- What `insert` returned is on the disk: it survives a kill, and a power cut where the disk keeps what fsync said. An
  error means that nothing of the batch counts as kept.
- Rows come back in the order in which they were inserted. Among all rows that lie here a (source, key) and a (source,
  nonce) come once; an equal delivery is answered with the first one's id.
- A row leaves by `delete` alone. What the log refused, or what the disk damaged, stays and is marked; the next start
  tries it once more, so that an upgrade that knows better delivers it.
- A file that is damaged, or of a newer version, stops the start with what to do about it. Nothing is dropped silently.

SQLite and not a file of our own, although appending and fdatasync is about twice as quick (`make bench-spool`, 64 a
commit: 36,000 to 40,000 rows/s against 21,000; one a commit: alike). Ingest acknowledges some 6,000 a second, so that
neither is the limit; with a file we would write dedup, deletion, recovery of a torn tail and bounds ourselves.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from events.errors import Unavailable
from events.ids import uuid7_time
from events.types import Accepted, Appended, Duplicate, Receipt
from ingest.spool_place import damaged, explained, fault, own, sync
from ingest.spool_rows import cost, weight

VERSION = 1
SHRINK = 16 << 20
"""Bytes of file above which an empty spool gives its space back."""

_SCHEMA = (
    """
    CREATE TABLE delivery (
      seq INTEGER PRIMARY KEY AUTOINCREMENT, source_id INTEGER NOT NULL, key BLOB NOT NULL, nonce BLOB,
      stream_id BLOB NOT NULL, size INTEGER NOT NULL, weight INTEGER NOT NULL, refused TEXT, receipt BLOB NOT NULL)
    """,
    "CREATE UNIQUE INDEX delivery_key ON delivery (source_id, key)",
    "CREATE UNIQUE INDEX delivery_nonce ON delivery (source_id, nonce) WHERE nonce IS NOT NULL",
    "CREATE TABLE memory (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
    f"PRAGMA user_version = {VERSION}",
)
_INSERT = (
    "INSERT INTO delivery (source_id, key, nonce, stream_id, size, weight, receipt) VALUES {} ON CONFLICT DO NOTHING"
)
_INSERTS = {count: _INSERT.format(", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * count)) for count in (256, 64, 16, 4, 1)}
_FIRST = """
SELECT stream_id FROM delivery WHERE source_id = :source AND key = :key
UNION ALL SELECT stream_id FROM delivery WHERE source_id = :source AND nonce = :nonce LIMIT 1
"""
_NEXT = "SELECT seq, weight, receipt FROM delivery WHERE seq > ? AND refused IS NULL ORDER BY seq"
_OLDEST = "SELECT stream_id FROM delivery WHERE refused IS NULL ORDER BY seq LIMIT 1"
_COUNT = "SELECT count(*) - count(refused), coalesce(sum(size), 0), count(refused) FROM delivery"


class Row(NamedTuple):
    """A row as it lies in the file. `weight`: the bytes of the receipt once it is unpacked, about."""

    seq: int
    weight: int
    kept: bytes


class Store:
    """The open file. After each call its attributes tell how it stands; any thread may look: `rows` wait for the log,
    `refused` do not, all of them have `size` bytes, and the `oldest` that waits came then, in Unix seconds.

    Raises:
        ConfigError: the directory cannot be made or written, another process owns it, or its file is damaged or of a
            newer version.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "spool.db"
        self.rows = 0
        self.size = 0
        self.refused = 0
        self.oldest: float | None = None
        self.memory: dict[str, bytes] = {}
        with explained(directory):
            self._lock = own(directory)
            try:
                self._sqlite = self._open()
                self._prepare()
            except BaseException:
                os.close(self._lock)
                raise
            sync(directory)

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's own files follow its mode
        return sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=32)

    def _prepare(self) -> None:
        run = self._sqlite.execute
        (version,) = run("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise fault(self.path, f"version {VERSION}, got {version}: a newer Headrace wrote it; start that one again")
        if version:
            (answer, *_) = run("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise damaged(self.path, answer)
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA journal_size_limit = 67108864")
        run("PRAGMA cache_size = -32768")  # 32 MB: the keys are random, and their index outgrows the usual 2 MB
        with self._transaction():
            for statement in _SCHEMA if not version else ():
                run(statement)
            run("UPDATE delivery SET refused = NULL WHERE refused IS NOT NULL")
        self.rows, self.size, self.refused = run(_COUNT).fetchone()
        self.memory = dict(run("SELECT name, value FROM memory"))
        self._look()

    def insert(self, receipts: Sequence[Receipt], kept: Sequence[bytes]) -> list[Appended]:
        """Keeps a batch; one answer per receipt, in order.

        Args:
            kept: the receipts as `encode` makes them.

        Raises:
            Unavailable: the disk did not take it.
        """
        with self._translated(), self._transaction():
            new = self._insert(list(zip(receipts, kept, strict=True)))
            answers: list[Appended] = [Accepted(r.stream_id) for r in receipts]
            if new < len(receipts):
                answers = self._answers(receipts)
        self.rows += new
        self.size += sum(cost(k) for k, answer in zip(kept, answers, strict=True) if isinstance(answer, Accepted))
        if self.oldest is None:
            self._look()
        return answers

    def _insert(self, pairs: Sequence[tuple[Receipt, bytes]]) -> int:
        """How many are new. Many rows a statement: each statement costs this thread a wait for the interpreter."""
        new = at = 0
        for count, statement in _INSERTS.items():
            while len(pairs) - at >= count:
                values: list[object] = []
                for r, k in pairs[at : at + count]:
                    values += (r.source_id, r.key, r.nonce, r.stream_id.bytes, cost(k), weight(r), k)
                new += self._sqlite.execute(statement, values).rowcount
                at += count
        return new

    def _answers(self, receipts: Sequence[Receipt]) -> list[Appended]:
        answers: list[Appended] = []
        for r in receipts:
            named = {"source": r.source_id, "key": r.key, "nonce": r.nonce}
            first = UUID(bytes=self._sqlite.execute(_FIRST, named).fetchone()[0])
            answers.append(Accepted(first) if first == r.stream_id else Duplicate(first))
        return answers

    def next(self, after: int, rows: int, size: int) -> list[Row]:
        """The first rows that wait behind the number `after`: at most so many, and of so many bytes once they are
        unpacked (but one at least).

        Raises:
            Unavailable: the file cannot be read.
        """
        batch: list[Row] = []
        with self._translated(), contextlib.closing(self._sqlite.execute(_NEXT, (after,))) as found:
            for row in itertools.starmap(Row, found):
                size -= row.weight
                if batch and size < 0:
                    break
                batch.append(row)
                if len(batch) == rows:
                    break
        return batch

    def delete(self, through: int) -> None:
        """Forgets every row up to this number, those that are marked as refused excepted.

        Raises:
            Unavailable: the disk did not take it.
        """
        where = "FROM delivery WHERE seq <= ? AND refused IS NULL"
        with self._translated(), self._transaction():
            rows, size = self._sqlite.execute(f"SELECT count(*), coalesce(sum(size), 0) {where}", (through,)).fetchone()
            self._sqlite.execute(f"DELETE {where}", (through,))
        self.rows -= rows
        self.size -= size
        self._look()

    def refuse(self, seq: int, reason: str) -> None:
        """Marks a row as one that cannot be delivered; it stays.

        Raises:
            Unavailable: the disk did not take it.
        """
        with self._translated(), self._transaction():
            statement = "UPDATE delivery SET refused = ? WHERE seq = ? AND refused IS NULL"
            marked = self._sqlite.execute(statement, (reason, seq)).rowcount
        self.rows -= marked
        self.refused += marked
        self._look()

    def remember(self, name: str, value: bytes) -> None:
        """Keeps a value that is not a delivery, in place of the one of this name.

        Raises:
            Unavailable: the disk did not take it.
        """
        with self._translated(), self._transaction():
            self._sqlite.execute("INSERT OR REPLACE INTO memory VALUES (?, ?)", (name, value))
        self.memory[name] = value

    def tidy(self) -> None:
        """Gives an empty spool's space back."""
        with self._translated():
            if self.rows == 0 and self.path.stat().st_size > SHRINK:
                self._sqlite.execute("VACUUM")
                self._sqlite.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Lets go of file and directory."""
        self._sqlite.close()
        os.close(self._lock)

    def _look(self) -> None:
        with self._translated():
            found = self._sqlite.execute(_OLDEST).fetchone()
        self.oldest = uuid7_time(UUID(bytes=found[0])) if found else None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._sqlite.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._sqlite.execute("COMMIT")
        except BaseException:
            if self._sqlite.in_transaction:  # some errors have rolled it back already
                self._sqlite.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the spool {self.path} cannot be used: {error}; see to its disk") from error
