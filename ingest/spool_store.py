"""The spool's file: SQLite in WAL mode with full sync, in a directory that one process owns.

Everything here blocks and belongs to one thread, the spool's (`ingest.spool`). What it promises:

- What `insert` returned is on the disk: it survives a kill, and a power cut where the disk keeps what fsync said. An
  error means that nothing of the batch counts as kept.
- Rows come back in the order in which they were inserted. An equal delivery, by (source, key) or (source, nonce), is
  answered with the first one's id and kept no second time, with one exception: a repetition with a nonce of its own is
  kept too, as a row that has a `first`, so that the log learns of the nonce (see `events.elaborate`).
- A row leaves by `delete` alone. What the log refused, or what the disk damaged, stays and is marked; the next start
  tries it once more, so that an upgrade that knows better delivers it.
- A file that is damaged, or of a newer version, stops the start with what to do about it. Nothing is dropped silently.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

from events.errors import Unavailable
from events.ids import uuid7_time
from events.types import Accepted, Appended, Duplicate, Receipt
from ingest import spool_statements as sql
from ingest.spool_place import damaged, explained, fault, own, sync
from ingest.spool_reserve import Reserve
from ingest.spool_rows import cost

SHRINK = 16 << 20
"""Bytes of file above which an empty spool gives its space back."""


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
                self._reserve = Reserve(directory)
                self._reserve.ready()
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
        if version > sql.VERSION:
            raise fault(self.path, f"version {sql.VERSION}, got {version} of a newer Headrace; start that one again")
        if version:
            (answer, *_) = run("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise damaged(self.path, answer)
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA journal_size_limit = 67108864")
        run("PRAGMA cache_size = -32768")  # 32 MB: the keys are random, and their index outgrows the usual 2 MB
        with self._transaction():
            for statement in sql.STEPS[version]:
                run(statement)
            run("UPDATE delivery SET refused = NULL WHERE refused IS NOT NULL")
        self.rows, self.size, self.refused = run(sql.COUNT).fetchone()
        self.memory = dict(run("SELECT name, value FROM memory"))
        self._look()

    def insert(self, receipts: Sequence[Receipt], kept: Sequence[bytes]) -> list[Appended]:
        """Keeps a batch; one answer per receipt, in order.

        Args:
            kept: the receipts as `encode` makes them.

        Raises:
            Unavailable: the disk did not take it.
        """
        with self._translated(), self._adding():
            new = self._insert(list(zip(receipts, kept, strict=True)))
            if new == len(receipts):
                size = sum(map(cost, kept))
            else:
                (size,) = self._sqlite.execute(sql.LAST, (new,)).fetchone()
            if new == len(receipts) and all(r.nonce is None for r in receipts):
                answers: list[Appended] = [Accepted(r.stream_id) for r in receipts]
            else:
                answers = [self._answer(r) for r in receipts]
        self.rows += new
        self.size += size
        if self.oldest is None:
            self._look()
        return answers

    def _insert(self, pairs: Sequence[tuple[Receipt, bytes]]) -> int:
        """How many rows are new. What has a nonce goes by itself, because it depends on the row before."""
        new = 0
        for nonced, some in itertools.groupby(pairs, key=lambda pair: pair[0].nonce is not None):
            if nonced:
                new += sum(self._sqlite.execute(sql.INSERT_NONCED, sql.values(*pair)).rowcount for pair in some)
            else:
                new += self._insert_plain(list(some))
        return new

    def _insert_plain(self, pairs: Sequence[tuple[Receipt, bytes]]) -> int:
        """Many rows a statement: each statement costs this thread a wait for the interpreter."""
        new = at = 0
        for count, statement in sql.INSERTS.items():
            while len(pairs) - at >= count:
                values = [value for pair in pairs[at : at + count] for value in sql.values(*pair)]
                new += self._sqlite.execute(statement, values).rowcount
                at += count
        return new

    def _answer(self, receipt: Receipt) -> Appended:
        if receipt.nonce is None:
            found = self._sqlite.execute(sql.BY_KEY, (receipt.source_id, receipt.key))
        else:
            found = self._sqlite.execute(sql.BY_NONCE, (receipt.source_id, receipt.nonce))
        first = UUID(bytes=found.fetchone()[0])
        return Accepted(first) if first == receipt.stream_id else Duplicate(first)

    def next(self, after: int, rows: int, size: int) -> list[sql.Row]:
        """The first rows that wait behind the number `after`: at most so many, and of so many bytes once they are
        unpacked (but one at least).

        Raises:
            Unavailable: the file cannot be read.
        """
        batch: list[sql.Row] = []
        with self._translated(), contextlib.closing(self._sqlite.execute(sql.NEXT, (after,))) as found:
            for row in itertools.starmap(sql.Row, found):
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
        count = f"SELECT count(*), coalesce(sum(size), 0) {where}"
        with self._translated():
            rows, size = self._sqlite.execute(count, (through,)).fetchone()
            self._emptying(f"DELETE {where}", (through,))
        self.rows -= rows
        self.size -= size
        self._look()

    def refuse(self, seq: int, reason: str) -> None:
        """Marks a row as one that cannot be delivered; it stays.

        Raises:
            Unavailable: the disk did not take it.
        """
        with self._translated():
            statement = "UPDATE delivery SET refused = ? WHERE seq = ? AND refused IS NULL"
            marked = self._emptying(statement, (reason, seq))
        self.rows -= marked
        self.refused += marked
        self._look()

    def remember(self, name: str, value: bytes) -> None:
        """Keeps a value that is not a delivery, in place of the one of this name.

        Raises:
            Unavailable: the disk did not take it.
        """
        with self._translated(), self._adding():
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
            found = self._sqlite.execute(sql.OLDEST).fetchone()
        self.oldest = uuid7_time(UUID(bytes=found[0])) if found else None

    @contextlib.contextmanager
    def _adding(self) -> Iterator[None]:
        if not self._reserve.ready():
            raise sqlite3.OperationalError("the disk is full, and what is left of it is for emptying the spool")
        with self._transaction():
            yield

    def _emptying(self, statement: str, arguments: tuple[object, ...]) -> int:
        """A statement that the drain needs, even on a full disk; how many rows it changed."""
        try:
            with self._transaction():
                return self._sqlite.execute(statement, arguments).rowcount
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._reserve.release():
                raise
        with self._transaction():
            return self._sqlite.execute(statement, arguments).rowcount

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
