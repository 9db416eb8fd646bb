"""Presets of those that move money and goods: each names the document that its facts are from."""

from __future__ import annotations

from ingest.identity import Header, Pointer
from ingest.providers.base import Option, Preset, Response
from ingest.splitting import narrowed
from ingest.verify.adyen import Adyen
from ingest.verify.anyof import AnyOf
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
    # developer.squareup.com, "Validate event notifications"; `WebhooksHelper` of Square's SDKs. The key is the
    # subscription's signature key, and what is signed begins with the URL of the subscription.
    "square": Preset(
        title="Square",
        scheme=Hmac(header="x-square-hmacsha256-signature", encoding="base64", signed="{url}{body}"),
        id=(Pointer("/event_id"),),
        type=(Pointer("/type"),),
        response=Response(status=200),
        needs_url=True,
    ),
    # developer.paddle.com, "Verify webhook signatures", "Handle webhook delivery" (200 within five seconds), "How
    # webhooks work" (a repetition has the same event_id).
    "paddle": Preset(
        title="Paddle",
        scheme=Hmac(
            header="Paddle-Signature",
            pairs=Pairs(separator=";", signature="h1", timestamp="ts"),
            signed="{timestamp}:{body}",
            timestamp=Timestamp(tolerance=TOLERANCE),
        ),
        id=(Pointer("/event_id"),),
        type=(Pointer("/event_type"),),
        response=Response(status=200),
    ),
    # shopify.dev, "Deliver webhooks through HTTPS" and "Verify webhook deliveries". The key is the app's client secret.
    # "Verify Events deliveries", and `WEBHOOK_HEADER_NAMES` of @shopify/shopify-api: the newer events have no `X-`.
    "shopify": Preset(
        title="Shopify",
        scheme=AnyOf(
            (
                Hmac(header="X-Shopify-Hmac-SHA256", encoding="base64"),
                Hmac(header="Shopify-Hmac-Sha256", encoding="base64"),
            )
        ),
        id=(Header("X-Shopify-Webhook-Id", "Shopify-Webhook-Id"),),
        type=(Header("X-Shopify-Topic", "Shopify-Topic"),),
        response=Response(status=200),
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
