"""Presets of those that carry messages between people: each names the document that its facts are from."""

from __future__ import annotations

from ingest.handshake_signed import DISCORD, SLACK, ZOOM
from ingest.handshake_unsigned import META, X
from ingest.identity import First, Form, Header, OtherKey, Pointer
from ingest.providers.base import Preset, Response
from ingest.splitting import elements, meta
from ingest.verify.mac import Hmac, Timestamp
from ingest.verify.mailgun import Mailgun
from ingest.verify.objects import Objects
from ingest.verify.public_key import PublicKey
from ingest.verify.token import Bearer
from ingest.verify.twilio import Twilio

_TWIML = '<?xml version="1.0" encoding="UTF-8"?><Response/>'

MESSAGES: dict[str, Preset] = {
    # docs.slack.dev, "Verifying requests from Slack", "Events API". Commands and buttons come as forms, signed alike.
    "slack": Preset(
        title="Slack",
        scheme=Hmac(
            header="X-Slack-Signature",
            prefix="v0=",
            signed="v0:{timestamp}:{body}",
            timestamp=Timestamp(header="X-Slack-Request-Timestamp"),
        ),
        id=(Pointer("/event_id"),),
        type=(First((Pointer("/event/type"), Pointer("/type"), Form("command"))),),
        handshake=SLACK,
        response=Response(status=200, body=""),  # what a command is answered is shown to whoever typed it
    ),
    # twilio.com/docs, "Webhooks security", "Webhooks connection overrides" (the token stays the same in retries). Calls
    # and messages want to be answered with TwiML: this tells Twilio to do nothing more.
    "twilio": Preset(
        title="Twilio",
        scheme=Twilio(),
        id=(Header("I-Twilio-Idempotency-Token"),),
        type=(First((Form("MessageStatus"), Form("SmsStatus"), Form("CallStatus"), Form("EventType"))),),
        methods=("POST", "GET"),
        response=Response(status=200, headers=(("content-type", "text/xml"),), body=_TWIML),
        needs_url=True,
    ),
    # twilio.com/docs/sendgrid, "Event Webhook Security Features", "Event Webhook Reference". The secret is the
    # verification key of the mail settings, which is public.
    "sendgrid": Preset(
        title="SendGrid",
        scheme=PublicKey(
            algorithm="p256",
            header="X-Twilio-Email-Event-Webhook-Signature",
            timestamp="X-Twilio-Email-Event-Webhook-Timestamp",
        ),
        id=(Pointer("/sg_event_id"),),
        type=(Pointer("/event"),),
        split=elements(),
    ),
    # documentation.mailgun.com, "Webhook Payloads", "Webhook Retries": everything but 200 and 406 is sent again.
    "mailgun": Preset(
        title="Mailgun",
        scheme=Mailgun(),
        id=(Pointer("/event-data/id"),),
        type=(Pointer("/event-data/event"),),
        response=Response(status=200),
    ),
    # docs.discord.com, "Webhook Events": no id, and 204 for every event. The secret is the application's public key.
    "discord": Preset(
        title="Discord",
        scheme=PublicKey(algorithm="ed25519", header="X-Signature-Ed25519", timestamp="X-Signature-Timestamp"),
        type=(First((Pointer("/event/type"), Pointer("/type"))),),
        handshake=DISCORD,
        response=Response(status=204),
    ),
    # core.telegram.org/bots/api, setWebhook (`secret_token`) and Update: one member beside its id says what it is.
    "telegram": Preset(
        title="Telegram",
        scheme=Bearer(header="X-Telegram-Bot-Api-Secret-Token", prefix=""),
        id=(Pointer("/update_id"),),
        type=(OtherKey(("update_id",)),),
        response=Response(status=200),
    ),
    # developers.facebook.com, Graph API "Webhooks", WhatsApp "Webhooks". Only WhatsApp's messages, its statuses and
    # leads have ids that mean one event; the ids of Messenger and Instagram come again when a message is unsent.
    "meta": Preset(
        title="Meta (Facebook, Instagram, Messenger, WhatsApp)",
        scheme=Hmac(header="X-Hub-Signature-256", prefix="sha256="),
        id=(
            First(
                (
                    Pointer("/entry/0/changes/0/value/messages/0/id"),
                    Pointer("/entry/0/changes/0/value/statuses/0/id"),
                    Pointer("/entry/0/changes/0/value/leadgen_id"),
                )
            ),
            First((Pointer("/entry/0/changes/0/value/statuses/0/status"), Pointer("/entry/0/changes/0/field"))),
        ),
        type=(
            Pointer("/object"),
            Pointer("/entry/0/changes/0/field"),
            Pointer("/entry/0/changes/0/value/statuses/0/status"),
        ),
        split=meta(),
        handshake=META,
        response=Response(status=200),
    ),
    # docs.x.com, "Webhooks". No id: a retry has the same body, and so the same signature.
    "x": Preset(
        title="X",
        scheme=Objects(Hmac(header="X-Twitter-Webhooks-Signature", prefix="sha256=", encoding="base64")),
        type=(OtherKey(("for_user_id", "user_has_blocked")),),
        handshake=X,
        response=Response(status=200),
    ),
    # developers.zoom.us, "Using webhooks". Zoom tries again for some two hours and does not say that it signs anew.
    "zoom": Preset(
        title="Zoom",
        scheme=Hmac(
            header="X-Zm-Signature",
            prefix="v0=",
            signed="v0:{timestamp}:{body}",
            timestamp=Timestamp(header="X-Zm-Request-Timestamp", tolerance=3 * 3600.0),
        ),
        type=(Pointer("/event"),),
        handshake=ZOOM,
        response=Response(status=200),
    ),
}
