"""Presets of those that keep customers, contracts and incidents: each names the document that its facts are from."""

from __future__ import annotations

from ingest.identity import First, Pointer
from ingest.providers.base import Preset
from ingest.splitting import elements
from ingest.verify.hubspot import HubSpot

BUSINESS: dict[str, Preset] = {
    # developers.hubspot.com, "Validating requests", "Webhooks API": eventId alone is not unique, and attemptNumber
    # makes the body of a retry another one.
    "hubspot": Preset(
        title="HubSpot",
        scheme=HubSpot(),
        id=(
            Pointer("/subscriptionId"),
            Pointer("/eventId"),
            First((Pointer("/objectId"), Pointer("/fromObjectId"))),
            Pointer("/occurredAt"),
        ),
        type=(Pointer("/subscriptionType"),),
        split=elements(),
        needs_url=True,
    ),
}
