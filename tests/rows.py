"""Rows for tests: receipts, routings, runs, as short as they can be."""

from __future__ import annotations

import itertools
import time
from uuid import UUID

import msgspec

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


def nonced(nonce: str, key: str | None = None) -> Receipt:
    """A receipt with a nonce."""
    return msgspec.structs.replace(receipt(key), nonce=dedup_key(b"nonce", nonce.encode()))


def batch(*items: str, key: str | None = None, nonce: str | None = None, source_id: int = 1) -> Receipt:
    """A batch whose items have these keys; an item's body tells its key, and is its type too."""
    parent = receipt(key, source_id=source_id) if nonce is None else nonced(nonce, key)
    return msgspec.structs.replace(
        parent,
        routed=False,
        metadata=msgspec.json.encode({"source": "s", "items": len(items)}).decode(),
        items=tuple(_item(parent, index, name) for index, name in enumerate(items)),
    )


def _item(parent: Receipt, index: int, name: str) -> Receipt:
    facts = {"source": "s", "event_type": name, "batch": parent.stream_id, "index": index}
    one = receipt(name, body=name.encode(), source_id=parent.source_id, metadata=msgspec.json.encode(facts).decode())
    return msgspec.structs.replace(one, stream_id=derived_id(parent.stream_id, str(index)))


def handshake(about: str) -> Receipt:
    """A greeting that was answered."""
    facts = msgspec.json.encode({"source": "s", "event_type": about, "handshake": about}).decode()
    return msgspec.structs.replace(receipt(metadata=facts), routed=False)
