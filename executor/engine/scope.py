"""What expressions may name: `event` (the delivery), `run`, and `nodes.<name>.output`.

The body is parsed once per process and delivery, and only when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import msgspec

from events.headers import decode_headers
from events.types import Event
from executor.workflow.state import Done, RunState


class DeliveryScope(Mapping[str, Any]):
    """`event` in expressions: id, source, type, method, query, headers (names in lower case), body, received_at.

    `body` is the parsed JSON, or text where it is not JSON.
    """

    __slots__ = ("_receipt", "_values")

    def __init__(self, receipt: Event) -> None:
        facts = receipt.metadata
        self._receipt = receipt
        self._values: dict[str, Any] = {
            "id": str(receipt.stream_id),
            "source": facts.get("source", ""),
            "type": facts.get("event_type", ""),
            "method": facts.get("method", ""),
            "query": facts.get("query", ""),
            "received_at": receipt.recorded_at,
        }

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            if name == "body":
                value: Any = parse_body(self._receipt.body or b"")
            elif name == "headers":
                value = dict(decode_headers(self._receipt.headers))
            else:
                raise
            self._values[name] = value
            return value

    def __iter__(self) -> Iterator[str]:
        yield from ("id", "source", "type", "method", "query", "received_at", "headers", "body")

    def __len__(self) -> int:
        return 8


def parse_body(body: bytes) -> Any:
    """JSON where it is JSON, else text (what is not UTF-8 is replaced)."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")


def run_scope(id: UUID, state: RunState, delivery: Mapping[str, Any]) -> dict[str, Any]:
    """The scope of a run's nodes, with the outputs that there are."""
    return {
        "event": delivery,
        "run": {"id": str(id), "workflow": state.workflow, "started_at": state.started_at},
        "nodes": {name: {"output": node.output} for name, node in state.nodes.items() if isinstance(node, Done)},
    }
