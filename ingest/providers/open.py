"""Presets of open standards, and senders that no one described: each names the document that its facts are from."""

from __future__ import annotations

from ingest.handshake_signed import SNS
from ingest.handshake_unsigned import CLOUDEVENTS
from ingest.identity import First, Header, Pointer
from ingest.providers.base import Option, Preset, Response
from ingest.splitting import elements
from ingest.verify.anyof import AnyOf
from ingest.verify.apikey import ApiKey
from ingest.verify.mac import Hmac
from ingest.verify.sns import Sns
from ingest.verify.standard import Standard
from ingest.verify.token import Bearer
from ingest.verify.unsigned import Unsigned

OPEN: dict[str, Preset] = {
    # github.com/standard-webhooks/standard-webhooks, specification 1.0.0
    "standard": Preset(
        title="Standard Webhooks",
        scheme=Standard(),
        id=(Header("webhook-id", "svix-id"),),
        type=(Pointer("/type"),),
    ),
    # github.com/cloudevents/spec, "HTTP protocol binding" 1.0.2 (binary, structured and batched), "HTTP 1.1 web hooks".
    "cloudevents": Preset(
        title="CloudEvents",
        scheme=AnyOf((Bearer(), ApiKey(query="access_token"))),
        id=(First((Header("ce-source"), Pointer("/source"))), First((Header("ce-id"), Pointer("/id")))),
        type=(First((Header("ce-type"), Pointer("/type"))),),
        split=elements(("specversion", "id", "source", "type")),
        batch_types=("application/cloudevents-batch+json",),  # an array of events may as well be one event's data
        handshake=CLOUDEVENTS,
        options=(
            Option("allowed_origin", "the origins that may ask to send here, separated by commas; any if unset", False),
            Option(
                "allowed_rate", "the requests a minute that they are told they may send; any number if unset", False
            ),
        ),
    ),
    # docs.aws.amazon.com/sns, "HTTP/HTTPS notification JSON format". The type is that of SNS; a topic's own is inside.
    "sns": Preset(
        title="Amazon SNS",
        scheme=Sns(),
        id=(Pointer("/MessageId"),),
        type=(Pointer("/Type"),),
        options=(Option("topics", "the ARNs of the topics that may post here, separated by commas"),),
        handshake=SNS,
        response=Response(status=200),
    ),
    "generic": Preset(
        title="Any sender with a shared secret",
        scheme=Hmac(header="X-Signature"),
        id=(Header("X-Delivery-Id"),),
        type=(Header("X-Event-Type"),),
    ),
    "none": Preset(title="Nothing is verified", scheme=Unsigned()),
}
