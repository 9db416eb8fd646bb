"""The composition root of ingest: settings in, an ASGI application out. It appends and rings, and can do
nothing else.

PostgreSQL may be away when ingest starts: it listens at once, answers 503, and is ready when the log is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog
from litestar import Litestar, Response, asgi, get

from events import faults
from events.collector import settle
from events.database import Database
from events.doorbell import Doorbell, broker_for
from events.secretbox import SecretBox
from events.settings import Settings
from events.telemetry import Span, Telemetry
from events.types import DELIVERY_QUEUE, Receipt
from ingest.bodies import Bodies
from ingest.catalogue import Catalogue
from ingest.certificates import Certificates
from ingest.compiled import compile_source
from ingest.keeper import Keeper, keeper_of
from ingest.peers import Peers
from ingest.readiness import NO_SOURCES, NotReady, Readiness, Readings, told
from ingest.rejections import Rejections
from ingest.room import Room
from ingest.routes import Door
from ingest.spool import Spool

STATEMENT = 30.0
"""Seconds that a statement may take: more than the keeper's patience; so long a dead connection holds its place."""
LINKS = 128
"""Requests that a doorbell's span is linked to, at most: as many as the SDK keeps."""

_log = structlog.get_logger(__name__)


def create_app(settings: Settings, telemetry: Telemetry) -> Litestar:
    """The public service.

    Raises:
        ConfigError: the settings cannot work (no database_url, a bad secret_key).
    """
    database = Database(settings.database_url, "ingest", timeout=STATEMENT)
    spool = Spool(Path(settings.spool_dir), settings.spool_limit) if settings.spool_dir else None
    doorbell = Doorbell(broker_for(settings.redis_url, []))

    def ring(batch: Sequence[Receipt]) -> None:
        faults.point("ingest.batch_committed")
        with _doorbell_span(telemetry, batch) as span:
            doorbell.ring(DELIVERY_QUEUE, span.traceparent)

    keeper = keeper_of(database, spool, max_waiting=settings.append_queue, committed=ring)
    box = SecretBox(settings.secret_key) if settings.secret_key else None
    certificates = Certificates()
    compiled = partial(compile_source, public_url=settings.public_url, certificates=certificates)
    catalogue = Catalogue(database, box, spool, compiled)
    rejections = Rejections(
        database,
        box,
        settings.rejected_per_hour,
        settings.rejected_bytes_per_hour,
        retention=settings.rejected_retention,
    )
    room = Room(settings.body_memory, settings.body_limit)
    door = Door(
        catalogue=catalogue,
        keeper=keeper,
        bodies=Bodies(room, limit=settings.body_limit, timeout=settings.body_timeout),
        rejections=rejections,
        certificates=certificates,
        peers=Peers(settings.trusted_proxies),
        clock=database.clock,
        telemetry=telemetry,
    )

    async def read() -> Readiness:
        readiness = await keeper.readiness()
        return readiness if catalogue.usable or isinstance(readiness, NotReady) else NotReady(NO_SOURCES, NO_SOURCES)

    readings = Readings(read)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        keeper.start()
        opening = asyncio.create_task(_open(database, catalogue, keeper))
        settle()
        try:
            yield
        finally:
            opening.cancel()
            await rejections.drain()
            await certificates.close()
            await keeper.close()
            await database.close()
            await asyncio.to_thread(doorbell.close)

    @get("/health/live", sync_to_thread=False)
    def live() -> dict[str, str]:
        """Answers as long as the process can answer at all."""
        return {"status": "live", "pid": str(os.getpid())}

    @get("/health/ready")
    async def ready() -> Response[dict[str, Any]]:
        """200 when a delivery would be kept now, in the log or in the spool, else 503."""
        status, body = told(await readings.now())
        return Response(body, status_code=status)

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


async def _open(database: Database, catalogue: Catalogue, keeper: Keeper) -> None:
    """Connects, however long that takes, then follows the definitions."""
    await database.open_patiently()
    keeper.look()
    async with asyncio.TaskGroup() as group:
        group.create_task(database.keep_clock())
        group.create_task(catalogue.follow())
