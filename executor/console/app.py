"""The composition root of the console: a private HTTP service for people and programs that start and steer runs.

It speaks to the log in the operator's role, and rings. Every request but those for its health and its reference brings
an API key, and sees the workspace of that key. It holds nothing: any number of these may run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from events.collector import settle
from events.database import Database
from events.doorbell import Doorbell, broker_for
from events.settings import Settings
from executor.console.access import Keys, guard
from executor.console.feed import LIVE
from executor.console.hub import Hub
from executor.console.overview import Overview, live, ready
from executor.console.problems import answer
from executor.console.rates import Counting, rates_of
from executor.console.reference import document, reference
from executor.console.runs import Runs
from executor.console.waiting import Ends
from executor.console.workflows import WorkflowsApi
from executor.engine.registry import Registry
from executor.engine.workflows import Workflows

BODY_LIMIT = 5 << 20
"""Bytes of a request."""
STATEMENT = 10.0
"""Seconds that a statement may take."""


def create_console(settings: Settings) -> Litestar:
    """The private service.

    Raises:
        ConfigError: the settings cannot work.
    """
    database = Database(settings.database_url, "operator", timeout=STATEMENT)
    doorbell = Doorbell(broker_for(settings.redis_url, []))
    registry = Registry.load(settings.node_modules)
    ends = Ends(database)
    hub = Hub(database, settings.redis_url)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        opening = asyncio.create_task(_open(database))
        watching = asyncio.create_task(hub.keep())
        settle()
        try:
            yield
        finally:
            opening.cancel()
            watching.cancel()
            await asyncio.wait({watching})
            await ends.close()
            await database.close()
            await asyncio.to_thread(doorbell.close)

    def given(value: Any) -> Provide:
        return Provide(lambda: value, sync_to_thread=False, use_cache=True)

    return Litestar(
        route_handlers=[Runs, WorkflowsApi, Overview, reference, document, live, ready, *LIVE],
        middleware=[DefineMiddleware(Keys), DefineMiddleware(Counting, rates=rates_of(settings))],
        guards=[guard],
        exception_handlers={Exception: answer},
        dependencies={
            "database": given(database),
            "doorbell": given(doorbell),
            "registry": given(registry),
            "workflows": given(Workflows(database, registry)),
            "ends": given(ends),
            "hub": given(hub),
            "settings": given(settings),
        },
        state=State({"database": database, "hub": hub}),
        lifespan=[lifespan],
        request_max_body_size=BODY_LIMIT,
        openapi_config=_openapi(),
        logging_config=None,
        signature_types=[Database, Doorbell, Registry, Workflows, Ends, Hub, Settings],
    )


def _openapi() -> OpenAPIConfig:
    scheme = SecurityScheme(type="http", scheme="bearer", description="A key of `headrace keys add`.")
    return OpenAPIConfig(
        title="Headrace",
        version=version("headrace"),
        description="Start runs, see how they go, have a say in them, publish workflows. Errors are problem documents "
        "(RFC 9457). Every request brings an API key: Authorization: Bearer hrk_…",
        path="/openapi",  # Litestar's own pages, behind the guard: ours are in `executor.console.reference`
        render_plugins=[JsonRenderPlugin()],
        components=Components(security_schemes={"key": scheme}),
        security=[{"key": []}],
    )


async def _open(database: Database) -> None:
    await database.open_patiently()
    await database.keep_clock()
