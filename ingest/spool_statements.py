"""The spool's tables and statements, for SQLite.

A row with a `first` is a repetition, by key, of the row of that stream id, and is kept for its nonce alone: it owns no
key. All other rows own theirs.

SQLite and not a file of our own, although appending and fdatasync is about twice as quick (`make bench-spool`, 64 a
commit: 36,000 to 40,000 rows/s against 21,000; one a commit: alike). Ingest acknowledges some 6,000 a second, so that
neither is the limit; with a file we would write dedup, deletion, recovery of a torn tail and bounds ourselves.
"""

from __future__ import annotations

from typing import NamedTuple

from events.types import Receipt
from ingest.spool_rows import cost, weight

VERSION = 2

_KEY = "CREATE UNIQUE INDEX delivery_key ON delivery (source_id, key) WHERE first IS NULL"
_SET_VERSION = f"PRAGMA user_version = {VERSION}"
_SCHEMA = (
    """
    CREATE TABLE delivery (
      seq INTEGER PRIMARY KEY AUTOINCREMENT, source_id INTEGER NOT NULL, key BLOB NOT NULL, nonce BLOB,
      stream_id BLOB NOT NULL, size INTEGER NOT NULL, weight INTEGER NOT NULL, refused TEXT, receipt BLOB NOT NULL,
      first BLOB)
    """,
    _KEY,
    "CREATE UNIQUE INDEX delivery_nonce ON delivery (source_id, nonce) WHERE nonce IS NOT NULL",
    "CREATE TABLE memory (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
    _SET_VERSION,
)
_FROM_1 = ("ALTER TABLE delivery ADD COLUMN first BLOB", "DROP INDEX delivery_key", _KEY, _SET_VERSION)
STEPS = (_SCHEMA, _FROM_1, ())
"""What a file of version 0 (an empty one), 1, … needs."""
_INSERT = (
    "INSERT INTO delivery (source_id, key, nonce, stream_id, size, weight, receipt) VALUES {} ON CONFLICT DO NOTHING"
)
INSERTS = {count: _INSERT.format(", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * count)) for count in (256, 64, 16, 4, 1)}
INSERT_NONCED = """
INSERT INTO delivery (source_id, key, nonce, stream_id, size, weight, receipt, first)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7,
  (SELECT stream_id FROM delivery WHERE source_id = ?1 AND key = ?2 AND first IS NULL)) ON CONFLICT DO NOTHING
"""
BY_KEY = "SELECT stream_id FROM delivery WHERE source_id = ? AND key = ? AND first IS NULL"
BY_NONCE = "SELECT coalesce(first, stream_id) FROM delivery WHERE source_id = ? AND nonce = ?"
LAST = "SELECT coalesce(sum(size), 0) FROM (SELECT size FROM delivery ORDER BY seq DESC LIMIT ?)"
NEXT = "SELECT seq, weight, receipt FROM delivery WHERE seq > ? AND refused IS NULL ORDER BY seq"
OLDEST = "SELECT stream_id FROM delivery WHERE refused IS NULL ORDER BY seq LIMIT 1"
COUNT = "SELECT count(*) - count(refused), coalesce(sum(size), 0), count(refused) FROM delivery"


class Row(NamedTuple):
    """A row as it lies in the file. `weight`: the bytes of the receipt once it is unpacked, about."""

    seq: int
    weight: int
    kept: bytes


def values(receipt: Receipt, kept: bytes) -> tuple[object, ...]:
    """A receipt as the inserting statements want it; `kept` is what `encode` made of it."""
    own = (receipt.source_id, receipt.key, receipt.nonce, receipt.stream_id.bytes)
    return (*own, cost(kept), weight(receipt), kept)
