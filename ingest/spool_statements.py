"""The spool's tables and statements, for SQLite.

A row with a `first` is a repetition, by key, of the row of that stream id, and is kept for its nonce alone: it owns no
key. All other rows own theirs.
"""

from __future__ import annotations

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
