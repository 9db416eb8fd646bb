"""The composition root of ingest: settings in, an ASGI application out. It appends and rings, and can do
nothing else.

PostgreSQL may be away when ingest starts: it listens at once, answers 503, and is ready when the log is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence

import msgspec
import structlog
from litestar import Litestar, Response, asgi, get

from events import faults
from events.collector import settle
from events.database import Database
from events.deliveries import delivery_journal
from events.doorbell import Doorbell, broker_for
from events.errors import HeadraceError
from events.secretbox import SecretBox
from events.settings import Settings
from events.telemetry import Span, Telemetry
from events.types import DELIVERY_QUEUE, Receipt
from ingest.catalogue import Catalogue
from ingest.routes import Door

LINKS = 128
"""Requests that a doorbell's span is linked to, at most: as many as the SDK keeps."""

_log = structlog.get_logger(__name__)


def create_app(settings: Settings, telemetry: Telemetry) -> Litestar:
    """The public service.

    Raises:
        ConfigError: the settings cannot work (no database_url, a bad secret_key).
    """
    database = Database(settings.database_url, "ingest")
    doorbell = Doorbell(broker_for(settings.redis_url, []))

    def ring(batch: Sequence[Receipt]) -> None:
        faults.point("ingest.batch_committed")
        with _doorbell_span(telemetry, batch) as span:
            doorbell.ring(DELIVERY_QUEUE, span.traceparent)

    journal = delivery_journal(database, max_waiting=settings.append_queue, committed=ring)
    catalogue = Catalogue(database, SecretBox(settings.secret_key) if settings.secret_key else None)
    door = Door(
        catalogue=catalogue,
        journal=journal,
        clock=database.clock,
        telemetry=telemetry,
        body_limit=settings.body_limit,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        opening = asyncio.create_task(_open(database, catalogue))
        settle()
        try:
            yield
        finally:
            opening.cancel()
            await journal.drain()
            await database.close()
            await asyncio.to_thread(doorbell.close)

    @get("/health/live", sync_to_thread=False)
    def live() -> dict[str, str]:
        """Answers as long as the process can answer at all."""
        return {"status": "live", "pid": str(os.getpid())}

    @get("/health/ready")
    async def ready() -> Response[dict[str, str]]:
        """200 when a delivery would be stored now, else 503 with the reason."""
        try:
            async with asyncio.timeout(2):
                await database.fetchval("SELECT 1")
            await catalogue.find("")
        except (HeadraceError, TimeoutError) as error:
            return Response(
                {"status": "not ready", "reason": f"the event log: {error or 'no answer in 2 s'}"},
                status_code=503,
            )
        return Response({"status": "ready"})

    return Litestar(
        route_handlers=[asgi("/in", is_mount=True, copy_scope=False)(door.__call__), live, ready],
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
    )


class _Traced(msgspec.Struct):
    """The part of a receipt's metadata that is looked at here."""

    traceparent: str | None = None


def _doorbell_span(telemetry: Telemetry, batch: Sequence[Receipt]) -> Span:
    """A doorbell is rung for a whole batch: a trace of its own, linked to the requests that made it ring."""
    if not telemetry.enabled:
        return telemetry.span("doorbell")
    found = (msgspec.json.decode(receipt.metadata, type=_Traced).traceparent for receipt in batch[:LINKS])
    return telemetry.span(
        "doorbell",
        kind="producer",
        links=[traceparent for traceparent in found if traceparent],
        attributes={
            "messaging.system": "dramatiq",
            "messaging.destination.name": DELIVERY_QUEUE,
            "headrace.deliveries": len(batch),
        },
    )


async def _open(database: Database, catalogue: Catalogue) -> None:
    """Connects, however long that takes, then follows the definitions."""
    await database.open_patiently()
    async with asyncio.TaskGroup() as group:
        group.create_task(database.keep_clock())
        group.create_task(catalogue.follow())
