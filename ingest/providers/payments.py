"""Presets of those that move money and goods: each names the document that its facts are from."""

from __future__ import annotations

from ingest.identity import Pointer
from ingest.providers.base import Option, Preset, Response
from ingest.splitting import narrowed
from ingest.verify.adyen import Adyen
from ingest.verify.base import TOLERANCE
from ingest.verify.mac import Hmac, Pairs, Timestamp
from ingest.verify.paypal import PayPal

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
    # developer.paypal.com, "Integrate webhooks", "Webhook event" (the id is the event's in every transmission of it).
    "paypal": Preset(
        title="PayPal",
        scheme=PayPal(),
        id=(Pointer("/id"),),
        type=(Pointer("/event_type"),),
        options=(Option("webhook_id", "the webhook's id, in PayPal's dashboard under Apps & Credentials"),),
        response=Response(status=200),
    ),
    # docs.adyen.com, "Accept webhooks": any 2xx today, this body before; "Handle duplicates" says what makes an event.
    "adyen": Preset(
        title="Adyen",
        scheme=Adyen(),
        id=(
            Pointer("/notificationItems/0/NotificationRequestItem/pspReference"),
            Pointer("/notificationItems/0/NotificationRequestItem/eventCode"),
            Pointer("/notificationItems/0/NotificationRequestItem/success"),
        ),
        type=(Pointer("/notificationItems/0/NotificationRequestItem/eventCode"),),
        split=narrowed("/notificationItems/*"),
        response=Response(status=200, headers=(("content-type", "text/plain"),), body="[accepted]"),
    ),
}
