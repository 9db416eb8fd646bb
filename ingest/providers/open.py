"""Presets of open standards, and senders that no one described: each names the document that its facts are from."""

from __future__ import annotations

from ingest.identity import Header, Pointer
from ingest.providers.base import Preset
from ingest.verify.mac import Hmac
from ingest.verify.standard import Standard
from ingest.verify.unsigned import Unsigned

OPEN: dict[str, Preset] = {
    # github.com/standard-webhooks/standard-webhooks, specification 1.0.0
    "standard": Preset(
        title="Standard Webhooks",
        scheme=Standard(),
        id=(Header("webhook-id", "svix-id"),),
        type=(Pointer("/type"),),
    ),
    "generic": Preset(
        title="Any sender with a shared secret",
        scheme=Hmac(header="X-Signature"),
        id=(Header("X-Delivery-Id"),),
        type=(Header("X-Event-Type"),),
    ),
    "none": Preset(title="Nothing is verified", scheme=Unsigned()),
}
