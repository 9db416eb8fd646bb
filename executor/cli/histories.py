"""What is known about one delivery or one run, gathered from the log, and as a JSON document.

The documents' field names are part of the interface: times are Unix seconds, lengths are seconds, sizes are
bytes. A body that is JSON is shown as JSON under `json`; any other as text under `text`, or in base64 under
`base64`.
"""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

import msgspec

from events import lists, log
from events.database import Database
from events.headers import decode_headers
from events.lists import DeliveryState, DeliverySummary
from events.log import OpenWork, RunSummary
from events.types import Event
from events.workspaces import PlaceWait, waits_for_place

SEEN_BEFORE = "seen before"
"""In place of the state of a batch's item that had come in another delivery."""


class DeliveryHistory(msgspec.Struct, frozen=True):
    """A delivery: its receipt, what came after, its runs (oldest first), what is still to be done; of a batch, what
    became of each item, None where it had come before.
    """

    receipt: Event
    later: list[Event]
    runs: list[RunSummary]
    work: list[OpenWork]
    items: list[DeliverySummary | None] = []

    @property
    def state(self) -> DeliveryState:
        """As `events.lists.DeliverySummary` has it."""
        types = {event.type for event in self.later}
        if "items" in self.receipt.metadata:
            return DeliveryState.BATCH
        if "handshake" in self.receipt.metadata:
            return DeliveryState.HANDSHAKE
        if "delivery.routed" in types:
            if self.runs:
                return DeliveryState.ROUTED
            if "delivery.settled" in types:
                return DeliveryState.SETTLED
            held = any(data_of(event).get("held") for event in self.later if event.type == "delivery.routed")
            return DeliveryState.HELD if held else DeliveryState.UNWANTED
        return DeliveryState.PARKED if "delivery.parked" in types else DeliveryState.WAITING


class RunHistory(msgspec.Struct, frozen=True):
    """A run: its head, its events, what is still to be done, the place that it waits for."""

    head: RunSummary
    events: list[Event]
    work: list[OpenWork]
    place: PlaceWait | None = None


async def delivery_history(database: Database, id: UUID) -> DeliveryHistory | None:
    """All about a delivery; None if there is none of this id."""
    events = await log.stream(database, id)
    if not events or events[0].type != "delivery.received":
        return None
    runs = await log.runs(database, limit=1000, delivery_id=id)
    items = await lists.items(database, id, events[0].metadata.get("items", 0))
    return DeliveryHistory(events[0], events[1:], runs[::-1], await log.open_work(database, id), items)


async def run_history(database: Database, id: UUID) -> RunHistory | None:
    """All about a run; None if there is none of this id."""
    head = await log.run(database, id)
    if head is None:
        return None
    place = await waits_for_place(database, id)
    return RunHistory(head, await log.stream(database, id), await log.open_work(database, id), place)


def data_of(event: Event) -> dict[str, Any]:
    """What an event that is JSON says."""
    data: dict[str, Any] = msgspec.json.decode(event.body) if event.body else {}
    return data


def delivery_document(history: DeliveryHistory, *, headers: bool, body: bool) -> dict[str, Any]:
    """The delivery as JSON-like data; headers and body where they are asked for."""
    receipt = history.receipt
    document: dict[str, Any] = {
        "id": receipt.stream_id,
        "received_at": receipt.recorded_at,
        "state": history.state,
        "size": len(receipt.body or b""),
        "metadata": receipt.metadata,
        "events": [_event(event) for event in history.later],
        "runs": history.runs,
        "work": history.work,
    }
    if history.state is DeliveryState.BATCH:
        document["items"] = [_item(index, item) for index, item in enumerate(history.items)]
    if headers:
        document["headers"] = decode_headers(receipt.headers)
    if body:
        document["body"] = body_document(receipt.body or b"")
    return document


def _item(index: int, item: DeliverySummary | None) -> dict[str, Any]:
    if item is None:
        return {"index": index, "id": None, "state": SEEN_BEFORE}
    return {"index": index, "id": item.id, "type": item.type, "state": item.state, "runs": item.runs}


def run_document(history: RunHistory) -> dict[str, Any]:
    """The run as JSON-like data."""
    return {
        **msgspec.to_builtins(history.head, builtin_types=(UUID,)),
        "events": [_event(event) for event in history.events],
        "work": history.work,
        **({"waits_for": str(history.place)} if history.place is not None else {}),
    }


def body_document(body: bytes) -> dict[str, Any]:
    """A body in the form that tells most about it, and loses nothing that is not JSON."""
    try:
        return {"json": msgspec.json.decode(body)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


def _event(event: Event) -> dict[str, Any]:
    return {"version": event.version, "type": event.type, "at": event.recorded_at, "data": data_of(event)}
