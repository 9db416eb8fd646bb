"""What a provider is to Headrace: one `Preset`, which is data and at most a few small functions."""

from __future__ import annotations

import msgspec

from ingest.handshakes import Handshake
from ingest.identity import Locator
from ingest.splitting import Split
from ingest.verify.base import Description


class Option(msgspec.Struct, frozen=True):
    """Something that a source of this preset must or may say beside its secrets, under `options:`."""

    name: str
    what: str
    """For people: what it is and where to find it."""
    required: bool = True


class Response(msgspec.Struct, frozen=True):
    """What an accepted delivery is answered. Without a body of its own: `{"id": …, "duplicate": …}`; with 204: none."""

    status: int = 202
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """One provider."""

    title: str
    """The provider's name for people."""
    scheme: Description
    """How it signs. `generic` may have another in the source's definition."""
    id: Locator = ()
    """Where the id stands that stays the same when a delivery is sent again. Empty: hash the body."""
    type: Locator = ()
    """Where the event type stands. Empty: none."""
    split: Split | None = None
    """How a delivery that carries many events falls into them; `id` and `type` are then read from each."""
    batch_types: tuple[str, ...] = ()
    """Media types, in lower case, of deliveries that carry many events; others are not split. Empty: any."""
    handshake: Handshake | None = None
    methods: tuple[str, ...] = ("POST",)
    """Methods that deliver."""
    response: Response = Response()
    options: tuple[Option, ...] = ()
    needs_url: bool = False
    """The signature covers the URL: the source, or `public_url`, must say it."""
