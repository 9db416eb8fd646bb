"""Cost classes: what calls may cost, in requests, in units of the class's own, and at the same time.

`reserve` before a call, `settle` after it. PostgreSQL holds all of it (migration 0008): a FLUSHALL forgets no budget, a
limit is exact over all workers, and a worker that dies leaves a hold which ends by itself. The price is a commit more
before and after each call; calls with a class take seconds and cost money.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from events.database import Database
from events.errors import ConfigError, NotFound

ALL = 0
"""The workspace of limits that hold for all workspaces together."""

_SET = """
INSERT INTO cost_limit (workspace_id, class, requests, cost, per, concurrent, daily, monthly)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (class, workspace_id) DO UPDATE SET requests = excluded.requests, cost = excluded.cost, per = excluded.per,
  concurrent = excluded.concurrent, daily = excluded.daily, monthly = excluded.monthly
"""
_LIST = """
SELECT l.workspace_id, coalesce(w.slug, '(all)'), l.class, l.requests, l.cost, l.per, l.concurrent, l.daily, l.monthly,
  CASE WHEN l.day = (now() AT TIME ZONE 'UTC')::date THEN l.day_cost ELSE 0 END,
  CASE WHEN l.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date THEN l.month_cost ELSE 0 END,
  (SELECT count(*) FROM cost_hold h WHERE h.class = l.class AND h.granted AND h.until > now()
    AND (l.workspace_id = 0 OR h.workspace_id = l.workspace_id))
FROM cost_limit l LEFT JOIN workspace w ON w.id = l.workspace_id ORDER BY l.class, l.workspace_id
"""
_USAGE = """
SELECT w.slug, u.class, u.workflow, u.run_id, count(*), sum(u.cost)
FROM (SELECT workspace_id, class, cost, CASE WHEN $3 THEN workflow END AS workflow,
    CASE WHEN $4 THEN run_id END AS run_id
  FROM cost_entry WHERE at >= to_timestamp($1) AND ($2::int IS NULL OR workspace_id = $2)
    AND ($5::uuid IS NULL OR run_id = $5)) u
JOIN workspace w ON w.id = u.workspace_id
GROUP BY 1, 2, 3, 4 ORDER BY 6 DESC, 5 DESC, 1, 2, 3, 4 LIMIT $6
"""


class Call(msgspec.Struct, frozen=True):
    """A call that is to be made. `id` is the same for every try at one attempt; `cost` is reserved."""

    id: UUID
    workspace_id: int
    cls: str
    workflow: str
    run_id: UUID
    node: str
    cost: float


class Granted(msgspec.Struct, frozen=True):
    """It may be made now."""


class Later(msgspec.Struct, frozen=True):
    """It may be made in so many seconds, and is the next then; ask again with the same id."""

    seconds: float
    reason: str


class Busy(msgspec.Struct, frozen=True):
    """As many as may be are under way."""

    reason: str


class Spent(msgspec.Struct, frozen=True):
    """A budget does not allow it. `seconds` until the next day or month begins."""

    seconds: float
    reason: str


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What calls of a class may cost; None is no limit. `requests` and `cost` are per `per` seconds; days and months
    are those of UTC.
    """

    requests: int | None = None
    cost: float | None = None
    per: float = 60.0
    concurrent: int | None = None
    daily: float | None = None
    monthly: float | None = None


class LimitRow(msgspec.Struct, frozen=True):
    """A limit, and what of it is used: cost of this day and month, calls under way."""

    workspace_id: int
    workspace: str
    cls: str
    limit: Limit
    today: float
    this_month: float
    busy: int


class Usage(msgspec.Struct, frozen=True):
    """What was spent: by workspace and class, and by workflow or run where that was asked for."""

    workspace: str
    cls: str
    workflow: str | None
    run_id: UUID | None
    calls: int
    cost: float


async def reserve(database: Database, call: Call, seconds: float) -> Granted | Later | Busy | Spent:
    """Asks for a call.

    Args:
        seconds: how long it may take; a hold that is older counts as spent.
    """
    (row,) = await database.fetch(
        "SELECT * FROM reserve_cost($1, $2, $3, $4, $5, $6, $7, $8)",
        call.id,
        call.workspace_id,
        call.cls,
        call.workflow,
        call.run_id,
        call.node,
        call.cost,
        seconds,
    )
    match row["verdict"]:
        case "go":
            return Granted()
        case "later":
            return Later(row["seconds"], row["detail"])
        case "busy":
            return Busy(row["detail"])
        case _:
            return Spent(row["seconds"], row["detail"])


async def settle(database: Database, id: UUID, cost: float) -> bool:
    """Says what a call came to. False: it was settled before, or its time was over and it is charged as reserved."""
    return bool(await database.fetchval("SELECT settle_cost($1, $2)", id, cost))


async def change(database: Database, workspace_id: int, cls: str, limit: Limit) -> None:
    """Makes this the limit of a class in a workspace (`ALL`: in all of them together).

    Raises:
        ConfigError: it limits nothing.
    """
    if limit == Limit(per=limit.per):
        raise ConfigError("limit", [f"{cls}: expected at least one of requests, cost, concurrent, daily, monthly"])
    await database.fetch(_SET, workspace_id, cls, *msgspec.structs.astuple(limit))


async def remove(database: Database, workspace_id: int, cls: str) -> None:
    """Takes a limit away.

    Raises:
        NotFound: there is none.
    """
    query = "DELETE FROM cost_limit WHERE workspace_id = $1 AND class = $2 RETURNING class"
    if not await database.fetch(query, workspace_id, cls):
        raise NotFound(f"no limit of {cls!r} there; `headrace limits list` lists them")


async def limits(database: Database) -> list[LimitRow]:
    """All limits, by class."""
    return [
        LimitRow(
            row[0],
            row[1],
            row[2],
            Limit(requests=row[3], cost=row[4], per=row[5], concurrent=row[6], daily=row[7], monthly=row[8]),
            *list(row)[9:],
        )
        for row in await database.fetch(_LIST)
    ]


async def usage(
    database: Database,
    since: float,
    *,
    workspace_id: int | None = None,
    by_workflow: bool = False,
    by_run: bool = False,
    run_id: UUID | None = None,
    limit: int = 1000,
) -> list[Usage]:
    """What was spent since `since` (Unix seconds), the dearest first."""
    rows = await database.fetch(_USAGE, since, workspace_id, by_workflow, by_run, run_id, limit)
    return [Usage(*row) for row in rows]
