"""What expressions may name of a delivery: `event`.

The body is parsed once per process and delivery, and only when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from events.content import decoded, parse
from events.headers import decode_headers
from events.types import Event

NAMES = ("id", "source", "type", "method", "query", "received_at", "headers", "body", "form", "files")
"""What `event` holds."""


class DeliveryScope(Mapping[str, Any]):
    """`event` in expressions: `NAMES`; names of headers in lower case.

    `body` is the JSON value; of a form, the first value of each field; else text. `form` has all values of each field
    of a form, `files` the files of a multipart form as {name, filename, content_type, size, text}; both are empty for
    what is not a form. Content-Encoding is undone for all three; a body that cannot be decoded is taken as it came.
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
            match name:
                case "body" | "form" | "files":
                    self._values |= _content(self._receipt)
                case "headers":
                    self._values["headers"] = dict(decode_headers(self._receipt.headers))
                case _:
                    raise
            return self._values[name]

    def __iter__(self) -> Iterator[str]:
        yield from NAMES

    def __len__(self) -> int:
        return len(NAMES)


def _content(receipt: Event) -> dict[str, Any]:
    """`encoding` and `content_type` are the receipt's own: an item of a batch is not encoded as its parent was."""
    facts, body = receipt.metadata, receipt.body or b""
    encoding = facts.get("encoding", "")
    plain = decoded(body, encoding) if encoding else body
    content = parse(body if plain is None else plain, facts.get("content_type", ""))
    return {"body": content.body, "form": content.form, "files": msgspec.to_builtins(content.files)}
