"""The two yardsticks of `make bench-ingest`, each a server on the given port: `noop` and `insert_per_request`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import uvicorn
from litestar import Litestar, Request, Response, asgi, post
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import create_async_engine

from events import tables
from events.collector import settle
from events.database import Database
from events.journal import Journal
from events.secretbox import SecretBox
from events.telemetry import NoTelemetry
from events.types import Accepted, Appended, Receipt
from ingest.bodies import Bodies
from ingest.catalogue import Catalogue
from ingest.certificates import Certificates
from ingest.peers import Peers
from ingest.rejections import Rejections
from ingest.room import Room
from ingest.routes import Door
from tests.bench.stand import SECRET, SECRET_KEY

_NOW = int(time.time() * 1000) << 80  # today's partition; the random part is enough to tell rows apart


def noop() -> Litestar:
    """The product's own handler over a journal that keeps nothing and answers at once."""
    database = Database(os.environ["HEADRACE_DATABASE_URL"], "ingest")
    catalogue = Catalogue(database, SecretBox(SECRET_KEY))

    class Nowhere(Journal[Receipt, Appended]):
        def append(self, row: Receipt) -> asyncio.Future[Appended]:
            future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
            future.set_result(Accepted(row.stream_id))
            return future

    async def write(batch: Sequence[Receipt]) -> Sequence[Appended]:
        raise AssertionError("nothing is ever written")

    door = Door(
        catalogue=catalogue,
        keeper=Nowhere(write, lambda row: 0),
        clock=database.clock,
        telemetry=NoTelemetry(),
        bodies=Bodies(Room(256 << 20, 25 << 20), limit=25 << 20, timeout=30),
        rejections=Rejections(database, None, 0, 0, retention=1),
        certificates=Certificates(),
        peers=Peers([]),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: Litestar) -> AsyncIterator[None]:
        await database.open()
        await catalogue.refresh()
        settle()
        yield
        await database.close()

    return Litestar(
        [asgi("/in", is_mount=True, copy_scope=False)(door.__call__)],
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
    )


def insert_per_request() -> Litestar:
    """What one writes first: a route, the body, the signature, one insert, one commit."""
    engine = create_async_engine(
        "postgresql+asyncpg://" + os.environ["HEADRACE_DATABASE_URL"].partition("://")[2],
        pool_size=20,
        max_overflow=0,
    )

    @post("/in/{source:str}", status_code=202)
    async def receive(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
        body = await request.body()
        expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, request.headers.get("x-hub-signature-256", "")):
            return Response({"error": "signature"}, status_code=401)
        id = uuid.UUID(int=uuid.uuid4().int & ((1 << 80) - 1) | _NOW)
        async with engine.begin() as connection:
            await connection.execute(
                insert(tables.event).values(
                    stream_id=id,
                    version=0,
                    workspace_id=1,
                    source_id=1,
                    type="yardstick",
                    metadata={"source": "bench"},
                    headers=b"",
                    body=body,
                )
            )
        return Response({"id": str(id)}, status_code=202)

    return Litestar([receive], openapi_config=None, logging_config=None, on_startup=[settle])


if __name__ == "__main__":
    app = {"noop": noop, "insert_per_request": insert_per_request}[sys.argv[1]]()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
    )
