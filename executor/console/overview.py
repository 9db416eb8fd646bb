"""What is left to do and who does it, by HTTP; and whether this process can answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from litestar import Controller, Response, get

from events import beats, workspaces
from events.api_keys import Role
from events.beats import QueueDepth, WorkerBeat
from events.database import Database
from events.errors import HeadraceError
from events.settings import Settings
from events.types import QUEUES
from events.workspaces import Workspace


class Overview(Controller):
    """`/queues`, `/workers`, `/workspaces`: the installation. For administrators: they show no workspace of its own."""

    tags: Sequence[str] = ("Installation",)

    @get("/queues", opt={"role": Role.ADMIN}, summary="Depth of the queues, and for how long the oldest is due")
    async def queues(self, database: Database) -> list[QueueDepth]:
        """Queues in which there is nothing too."""
        return await beats.queues(database, QUEUES)

    @get("/workers", opt={"role": Role.ADMIN}, summary="The workers that can be seen, and whether they take work")
    async def workers(self, settings: Settings) -> list[WorkerBeat]:
        """503 while Redis is away, in which they say that they live; they go on without it."""
        return await asyncio.to_thread(beats.workers, settings.redis_url)

    @get("/workspaces", opt={"role": Role.ADMIN}, summary="The workspaces: what each runs, may run, has waiting")
    async def list_workspaces(self, database: Database) -> list[Workspace]:
        """The oldest first."""
        return await workspaces.workspaces(database)


@get("/health/live", opt={"public": True, "exclude_from_auth": True}, include_in_schema=False, sync_to_thread=False)
def live() -> dict[str, str]:
    """Answers as long as the process can answer at all."""
    return {"status": "live"}


@get("/health/ready", opt={"public": True, "exclude_from_auth": True}, include_in_schema=False)
async def ready(database: Database) -> Response[dict[str, Any]]:
    """200 when the log answers, else 503."""
    try:
        await database.fetchval("SELECT 1")
    except HeadraceError:
        return Response({"status": "not ready"}, status_code=503)
    return Response({"status": "ready"})
