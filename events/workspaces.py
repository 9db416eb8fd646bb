"""Workspaces: whose a source, a workflow and a run is; each with a tier, and with a limit of its own if it has one.

A process learns of a change with the epoch of the definitions, as it does of an apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from uuid import UUID

import msgspec

from events.database import Database
from events.errors import ConfigError, NotFound
from events.types import Kind

DEFAULT = "default"
TIERS: Mapping[str, int | None] = MappingProxyType({"free": 5, "pro": 50, "unlimited": None})
"""How many runs of a workspace of the tier are carried on at once; None: as many as there is room for."""

_LIST = f"""
SELECT w.id, w.slug, w.tier, w.concurrency,
  count(*) FILTER (WHERE i.owner IS NOT NULL), count(*) FILTER (WHERE i.owner IS NULL AND i.due_at <= now())
FROM workspace w LEFT JOIN work_item i ON i.workspace_id = w.id AND i.kind = {Kind.RUN:d} GROUP BY w.id ORDER BY w.id
"""
_ADD = """
WITH named AS (
  INSERT INTO workspace (id, slug, tier, concurrency) SELECT 1 + max(id), $1, $2, $3 FROM workspace
  ON CONFLICT DO NOTHING RETURNING id),
told AS (UPDATE config SET epoch = epoch + 1 WHERE EXISTS (SELECT FROM named))
SELECT id FROM named
"""
_SET = """
WITH changed AS (UPDATE workspace SET tier = $2, concurrency = $3 WHERE slug = $1 RETURNING id),
told AS (UPDATE config SET epoch = epoch + 1 WHERE EXISTS (SELECT FROM changed))
SELECT id FROM changed
"""
_PLACE = f"""
SELECT s.slug, s.concurrency,
  (SELECT count(*) FROM work_item h WHERE h.workspace_id = s.id AND h.slot AND h.owner IS NOT NULL) AS busy,
  (SELECT count(*) FROM work_item b WHERE b.workspace_id = s.id AND b.kind = {Kind.RUN:d} AND b.owner IS NULL
    AND b.queue = w.queue AND b.attempt < 2 AND b.due_at < w.due_at) AS ahead
FROM work_item w JOIN workspace s ON s.id = w.workspace_id
WHERE w.id = $1 AND w.kind = {Kind.RUN:d} AND w.owner IS NULL AND w.due_at <= now() AND s.concurrency > 0
"""


class Workspace(msgspec.Struct, frozen=True):
    """A workspace. `concurrency`: runs that may be carried on at once, None for no limit. `running`: how many are;
    `waiting`: how many could be at once but for want of a worker or a place.
    """

    id: int
    slug: str
    tier: str
    concurrency: int | None
    running: int
    waiting: int


class PlaceWait(msgspec.Struct, frozen=True):
    """A run that waits for a place of its workspace: `busy` of `limit` are taken, and `ahead` runs of its queue wait
    for longer.
    """

    workspace: str
    limit: int
    busy: int
    ahead: int

    def __str__(self) -> str:
        return f"a place of workspace {self.workspace}: {self.busy} of {self.limit} are taken, {self.ahead} runs before"


async def workspaces(database: Database) -> list[Workspace]:
    """All of them, the oldest first."""
    return [Workspace(*row) for row in await database.fetch(_LIST)]


async def workspace_id(database: Database, slug: str) -> int:
    """The id of a workspace.

    Raises:
        NotFound: there is none of that name; says which there are.
    """
    rows = await database.fetch("SELECT id FROM workspace WHERE slug = $1", slug)
    if not rows:
        known = ", ".join(row[0] for row in await database.fetch("SELECT slug FROM workspace ORDER BY id LIMIT 20"))
        raise NotFound(f"workspace {slug!r}: expected one of {known}; `headrace workspaces add` makes another")
    return int(rows[0][0])


async def limited(database: Database) -> frozenset[int]:
    """The ids of the workspaces that have a limit."""
    return frozenset(row[0] for row in await database.fetch("SELECT id FROM workspace WHERE concurrency > 0"))


async def add(database: Database, slug: str, tier: str, concurrency: int | None = None) -> int:
    """Makes a workspace; its id.

    Args:
        concurrency: its own limit; None is its tier's.

    Raises:
        ConfigError: the name is taken, or the tier is not known.
    """
    limit = _limit(tier, concurrency)
    while True:  # two who add at once draw the same id, and one of them gets it
        if rows := await database.fetch(_ADD, slug, tier, limit):
            return int(rows[0][0])
        if await database.fetch("SELECT FROM workspace WHERE slug = $1", slug):
            break
    raise ConfigError("workspace", [f"{slug}: expected a name that is free, got that of a workspace"])


async def change(database: Database, slug: str, tier: str, concurrency: int | None = None) -> None:
    """Gives a workspace another tier or limit. What runs above a lower one goes on; nothing new starts until it fits.

    Raises:
        ConfigError: the tier is not known.
        NotFound: there is no such workspace.
    """
    if not await database.fetch(_SET, slug, tier, _limit(tier, concurrency)):
        await workspace_id(database, slug)


async def waits_for_place(database: Database, run_id: UUID) -> PlaceWait | None:
    """What a run waits for that nobody holds though it is due; None if not for a place."""
    rows = await database.fetch(_PLACE, run_id)
    if not rows or rows[0]["busy"] < rows[0]["concurrency"]:
        return None
    return PlaceWait(rows[0]["slug"], rows[0]["concurrency"], rows[0]["busy"], rows[0]["ahead"])


def _limit(tier: str, concurrency: int | None) -> int | None:
    if tier not in TIERS:
        raise ConfigError("workspace", [f"tier: expected one of {', '.join(TIERS)}, got {tier!r}"])
    if concurrency is not None and concurrency < 1:
        raise ConfigError("workspace", [f"concurrency: expected 1 or more, got {concurrency}"])
    return TIERS[tier] if concurrency is None else concurrency
