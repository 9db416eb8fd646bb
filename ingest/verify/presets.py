"""Providers by name: how each signs, names and types what it sends.

Promises: a preset is data, under thirty lines, in one shape; everything in it can be overridden or is fixed
by the provider's own documentation. To add one: its scheme, where its delivery id stands, where its event
type stands.
"""

from __future__ import annotations

import msgspec

from ingest.identity import Header, Locator, Pointer
from ingest.verify.schemes import TOLERANCE, Hmac, Pairs, Scheme, Standard, Timestamp, Unsigned


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """One provider."""

    title: str
    """The provider's name for people."""
    scheme: Scheme
    """How it signs. `generic` may have another in the source's definition."""
    id: Locator = ()
    """Where the id stands that stays the same when a delivery is sent again. Empty: hash the body."""
    type: Locator = ()
    """Where the event type stands. Empty: none."""


PRESETS: dict[str, Preset] = {
    # docs.github.com, "Validating webhook deliveries". The delivery id is not signed: the body alone is.
    # A redelivery by hand keeps the id. A form-encoded webhook has no action in its type.
    "github": Preset(
        title="GitHub",
        scheme=Hmac(header="X-Hub-Signature-256", prefix="sha256="),
        id=(Header("X-GitHub-Delivery"),),
        type=(Header("X-GitHub-Event"), Pointer("/action")),
    ),
    # github.com/standard-webhooks/standard-webhooks, specification 1.0.0
    "standard": Preset(
        title="Standard Webhooks",
        scheme=Standard(),
        id=(Header("webhook-id", "svix-id"),),
        type=(Pointer("/type"),),
    ),
    # docs.stripe.com, "Verify webhook signatures manually". The key is the whole secret, `whsec_` included.
    "stripe": Preset(
        title="Stripe",
        scheme=Hmac(
            header="Stripe-Signature",
            pairs=Pairs(separator=",", signature="v1", timestamp="t"),
            signed="{timestamp}.{body}",
            timestamp=Timestamp(tolerance=TOLERANCE),
        ),
        id=(Pointer("/id"),),
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
