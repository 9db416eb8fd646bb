"""Who a payload is sent as: the headers, and the body's own id, that a source's sender would make.

The id is what a source knows a delivery again by, so every delivery that is sent gets one of its own, in the
place where the source looks for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import assert_never
from urllib.parse import quote

import msgspec

from events import definitions
from events.database import Database
from events.errors import ConfigError, NotFound
from events.secretbox import SecretBox
from ingest.definition import SourceDefinition
from ingest.drafts import Headers, placed
from ingest.identity import First, Form, FormPointer, Header, Locator, OtherKey, Pointer, Query
from ingest.providers import PRESETS
from ingest.signing import Draft, Sent, sign_as, sign_described

NO_ID = "/headrace_send"
"""Where the id stands in bodies of senders that have none, so that no two are the same."""

Sign = Callable[[str, str, bytes, float], Sent]
"""(event, delivery id, body, Unix seconds) -> headers, the body that they sign, and what is added to the URL."""


async def stored_source(database: Database, slug: str, secret_key: str) -> tuple[SourceDefinition, str]:
    """A source as it stands, and the first of its secrets that still signs (empty where none does).

    Raises:
        NotFound: there is no such source.
        ConfigError: its secret does not open with our key.
    """
    for row in await definitions.sources(database):
        if row.slug == slug:
            definition = msgspec.convert(row.definition, SourceDefinition)
            sealed = _signing(definition, row.secrets)
            return definition, SecretBox(secret_key).open(sealed, f"source/{row.id}").decode() if sealed else ""
    raise NotFound(f"no source has the name {slug!r}; `headrace apply` makes one")


def _signing(definition: SourceDefinition, sealed: Sequence[bytes]) -> bytes:
    """The first sealed secret that is for signatures and has not ended."""
    now = time.time()
    for reference, secret in zip(definition.secrets, sealed, strict=False):
        if not reference.handshake and (reference.until is None or reference.until > now):
            return secret
    return b""


def sender_for(definition: SourceDefinition, secret: str, url: str = "") -> Sign:
    """How deliveries to a source are signed.

    Args:
        url: the source's public URL as senders know it, where the definition does not say it.

    Raises:
        ConfigError: nobody but the provider can sign for the source, or not with this secret or to no URL.
    """
    preset = PRESETS.get(definition.preset)
    at = definition.url or url
    id = definition.id if definition.id is not None or preset is None else preset.id
    type = definition.type  # the preset's own is the sender's business, where it has a sender
    if type is None and preset is not None and definition.verify is not None:
        type = preset.type

    def make(event: str, delivery_id: str, body: bytes, now: float) -> Sent:
        typed = _named(type, event, Headers(), "", body)
        headers, query, named = _named(id, delivery_id, *typed)
        if (headers, query, named) == typed:
            named = placed(body, NO_ID, delivery_id)
        draft = Draft(secret, event, delivery_id, named, now, at + (f"?{query}" if query else ""))
        sent = sign_described(definition.verify, draft) if definition.verify else sign_as(definition.preset, draft)
        theirs = {name.lower() for name, _ in sent.headers}
        more = [(name, value) for name, value in headers if name.lower() not in theirs]
        return Sent([*sent.headers, *more], sent.body, "&".join(part for part in (query, sent.query) if part))

    try:
        make("", "", b"{}", 0.0)  # a secret that cannot be used shows now
    except ConfigError as error:
        if any(not fault.startswith("body: ") for fault in error.faults):
            raise
    return make


def _named(
    locator: Locator | None, value: str, headers: Headers, query: str, body: bytes
) -> tuple[Headers, str, bytes]:
    """The delivery with a value in the first place of a locator, where a sender has a say in it."""
    part = next(_plain(locator or ()), None)
    match part:
        case None:
            return headers, query, body
        case Header(name=name):
            return [*headers, (name, value)], query, body
        case Query(name=name):
            return headers, "&".join(one for one in (query, f"{quote(name)}={quote(value)}") if one), body
        case Pointer(path=path):
            return headers, query, placed(body, path, value)
        case Form() | FormPointer() | OtherKey():
            return headers, query, body
        case impossible:
            assert_never(impossible)


def _plain(locator: Locator) -> Iterator[Header | Pointer | Query | Form | FormPointer | OtherKey]:
    for part in locator:
        if isinstance(part, First):
            yield from _plain(part.parts)
        else:
            yield part
