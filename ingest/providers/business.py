"""Presets of those that keep customers, contracts and incidents: each names the document that its facts are from."""

from __future__ import annotations

from ingest.handshake_unsigned import INTERCOM, OKTA
from ingest.identity import First, Header, Pointer
from ingest.providers.base import Preset, Response
from ingest.splitting import elements, narrowed
from ingest.verify.hubspot import HubSpot
from ingest.verify.mac import Hmac, Pairs, Timestamp
from ingest.verify.token import Bearer

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
    # developers.intercom.com, "Setting up webhooks" and "Signed notifications": the key is the app's client secret.
    "intercom": Preset(
        title="Intercom",
        scheme=Hmac(header="X-Hub-Signature", algorithm="sha1", prefix="sha1="),
        id=(Pointer("/id"),),
        type=(Pointer("/topic"),),
        handshake=INTERCOM,
        response=Response(status=200),
    ),
    # developer.zendesk.com, "Verifying webhook authenticity" (GET and DELETE have no body), "Anatomy of a webhook
    # request" (method and format are the customer's choice, the time is in ISO 8601).
    "zendesk": Preset(
        title="Zendesk",
        scheme=Hmac(
            header="X-Zendesk-Webhook-Signature",
            encoding="base64",
            signed="{timestamp}{body}",
            timestamp=Timestamp(header="X-Zendesk-Webhook-Signature-Timestamp", unit="iso8601"),
        ),
        id=(Header("X-Zendesk-Webhook-Invocation-Id"),),
        type=(Pointer("/type"),),
        methods=("POST", "PUT", "PATCH", "DELETE", "GET"),
        response=Response(status=200),
    ),
    # typeform.com/developers, "Secure your webhooks", "Example payload".
    "typeform": Preset(
        title="Typeform",
        scheme=Hmac(header="Typeform-Signature", prefix="sha256=", encoding="base64"),
        id=(Pointer("/event_id"),),
        type=(Pointer("/event_type"),),
        response=Response(status=200),
    ),
    # developers.docusign.com, "Connect: HMAC security" (one header per key), "JSON SIM event model": `retryCount` makes
    # the body of a retry another one. XML is known again by its bytes.
    "docusign": Preset(
        title="DocuSign",
        scheme=Hmac(header="X-DocuSign-Signature-{n}", encoding="base64"),
        id=(Pointer("/data/envelopeId"), Pointer("/event"), Pointer("/generatedDateTime")),
        type=(Pointer("/event"),),
        response=Response(status=200),
    ),
    # developer.pagerduty.com, "Verifying signatures" (one v1 per key), "V3 overview": 202 is what it asks for.
    "pagerduty": Preset(
        title="PagerDuty",
        scheme=Hmac(header="X-PagerDuty-Signature", pairs=Pairs(separator=",", signature="v1")),
        id=(Pointer("/event/id"),),
        type=(Pointer("/event/event_type"),),
    ),
    # developer.okta.com, "Event hooks": the value of Authorization is the customer's own; 200 or 204, nothing else.
    "okta": Preset(
        title="Okta",
        scheme=Bearer(prefix=""),
        id=(Pointer("/eventId"), Pointer("/data/events/0/uuid")),
        type=(Pointer("/data/events/0/eventType"),),
        split=narrowed("/data/events/*"),
        handshake=OKTA,
        response=Response(status=204),
    ),
}
