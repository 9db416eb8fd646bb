"""Rows for tests: receipts, routings, runs, as short as they can be."""

from __future__ import annotations

import itertools
import time
from uuid import UUID

from events.database import Database
from events.deliveries import DeliveryWriter
from events.ids import dedup_key, derived_id, uuid7
from events.runs import NewRun, Routing, RunWriter
from events.types import Accepted, Receipt
from events.work import WorkList

_numbers = itertools.count()


def receipt(
    key: str | None = None, *, body: bytes = b"{}", source_id: int = 1, metadata: str = '{"source":"s"}'
) -> Receipt:
    """A receipt; without a key it is like no other."""
    name = key if key is not None else f"unique {next(_numbers)}"
    return Receipt(uuid7(time.time()), 1, source_id, dedup_key(name.encode()), metadata, b"a: b", body)


async def deliver(ingest: Database, count: int = 1) -> list[UUID]:
    """Appends deliveries; their ids."""
    results = await DeliveryWriter(ingest).write([receipt() for _ in range(count)])
    assert all(isinstance(result, Accepted) for result in results)
    return [result.id for result in results if isinstance(result, Accepted)]


async def start_run(ingest: Database, worker: Database, *, leased: bool = True, queue: str = "webhook") -> UUID:
    """A delivery routed to one run, which is leased with token 1 to "me"."""
    await deliver(ingest)
    work = WorkList(worker, owner="me", lease=30.0)
    (item,) = await work.claim("webhook", 1, 1)
    run_id = derived_id(item.id, "w")
    run = NewRun(run_id, "w", b"hash", queue, b"{}", leased)
    routing = Routing(item.id, item.token, item.stream_id, 1, "delivery.routed", b"{}", (run,))
    assert await RunWriter(worker, owner="me", lease=30.0).route([routing]) == [True]
    return run_id
