"""Presets of those that move money and goods: each names the document that its facts are from."""

from __future__ import annotations

from ingest.identity import Pointer
from ingest.providers.base import Preset
from ingest.verify.base import TOLERANCE
from ingest.verify.mac import Hmac, Pairs, Timestamp

PAYMENTS: dict[str, Preset] = {
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
}
