"""What runs leave behind is deleted: arrivals that are old, and what is for runs that have ended.

All of it is unreachable already, so that nothing depends on when this happens. One call deletes a bounded number of
rows of each kind.
"""

from __future__ import annotations

import msgspec

from events.database import Database

KEEP_ARRIVALS = 7 * 86_400.0
"""Seconds for which an arrival is kept: a wait may look back as far."""
MOST = 10_000
"""Rows of each kind that one sweep deletes."""

_ARRIVALS = """
DELETE FROM arrival WHERE at < least(
  now() - make_interval(secs => $1),
  coalesce((SELECT at FROM arrival ORDER BY at OFFSET $2 LIMIT 1), 'infinity'))
"""
_INBOX = """
DELETE FROM inbox b USING (
  SELECT stream_id, seq FROM inbox o WHERE NOT EXISTS (SELECT FROM work_item w WHERE w.id = o.stream_id) LIMIT $1) AS t
WHERE b.stream_id = t.stream_id AND b.seq = t.seq
"""
# By place and not by key: a subscription that is made again meanwhile, by a reopened run, is a new row.
_SUBSCRIPTIONS = """
DELETE FROM subscription WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM subscription o WHERE NOT EXISTS (SELECT FROM work_item w WHERE w.id = o.run_id) LIMIT $1))
"""


class Swept(msgspec.Struct, frozen=True):
    """How many rows of each kind were deleted."""

    arrivals: int
    inbox: int
    subscriptions: int


async def sweep(database: Database, *, keep_arrivals: float = KEEP_ARRIVALS, most: int = MOST) -> Swept:
    """Deletes what nobody can use any more.

    Args:
        keep_arrivals: seconds.
        most: rows of each kind.
    """
    return Swept(
        await _deleted(database, _ARRIVALS, keep_arrivals, most),
        await _deleted(database, _INBOX, most),
        await _deleted(database, _SUBSCRIPTIONS, most),
    )


async def _deleted(database: Database, statement: str, *arguments: object) -> int:
    return int(await database.fetchval(f"WITH gone AS ({statement} RETURNING 1) SELECT count(*) FROM gone", *arguments))
