"""Who a payload is sent as: the headers, and the body's own id, that a source's sender would make.

The id is what a source knows a delivery again by, so every delivery that is sent gets one of its own, in the
place where the source looks for it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from events import definitions
from events.database import Database
from events.errors import ConfigError, NotFound
from events.secretbox import SecretBox
from ingest.definition import SourceDefinition
from ingest.identity import Header
from ingest.signing import SIGNABLE, sign
from ingest.verify.schemes import Bearer

Headers = list[tuple[str, str]]
Sign = Callable[[str, str, bytes, float], tuple[Headers, bytes]]
"""(event, delivery id, body, Unix seconds) -> headers, and the body that they sign."""


async def stored_source(database: Database, slug: str, secret_key: str) -> tuple[SourceDefinition, str]:
    """A source as it stands, and its first secret (empty where it has none).

    Raises:
        NotFound: there is no such source.
        ConfigError: its secret does not open with our key.
    """
    for row in await definitions.sources(database):
        if row.slug == slug:
            definition = msgspec.convert(row.definition, SourceDefinition)
            if not row.secrets:
                return definition, ""
            return definition, SecretBox(secret_key).open(row.secrets[0], f"source/{row.id}").decode()
    raise NotFound(f"no source has the name {slug!r}; `headrace apply` makes one")


def sender_for(definition: SourceDefinition, secret: str) -> Sign:
    """How deliveries to a source are signed.

    Raises:
        ConfigError: the source verifies in a way that this cannot sign.
    """
    scheme, preset = definition.verify, definition.preset
    if scheme is not None and not isinstance(scheme, Bearer):
        expected = f"one of {', '.join(SIGNABLE)}, or generic with a bearer token"
        raise ConfigError("send", [f"source {definition.source}: expected {expected}, got a signature of its own"])

    def make(event: str, delivery_id: str, body: bytes, now: float) -> tuple[Headers, bytes]:
        if preset == "stripe":
            body = _with_id(body, delivery_id)
        headers = sign(preset, secret, event, delivery_id, body, now) if scheme is None else _bearer(scheme, secret)
        if scheme is not None:
            headers += [("X-Delivery-Id", delivery_id), ("X-Event-Type", event)]
        for locator, value in ((definition.id, delivery_id), (definition.type, event)):
            headers += [(part.name, value) for part in locator or () if isinstance(part, Header)]
        return headers, body

    make("", "", b"{}", 0.0)  # a secret that cannot be used shows now
    return make


def _bearer(scheme: Bearer, token: str) -> Headers:
    return [("Content-Type", "application/json"), (scheme.header, f"{scheme.prefix}{token}")]


def _with_id(body: bytes, delivery_id: str) -> bytes:
    """The body with an id of its own at `/id`, where Stripe has it."""
    try:
        document = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return body
    return msgspec.json.encode({**document, "id": f"evt_{delivery_id.replace('-', '')}"})
