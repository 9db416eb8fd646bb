"""How each provider signs: a table of those that put one HMAC or a token into headers, and the few that do otherwise.

Templates: `{mac}` the signature, `{secret}`, `{id}` the delivery's, `{event}` its type, `{family}` what of that stands
before the first full stop, `{s}`, `{ms}` and `{iso8601}` the time, `{url}` and `{method}`.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from ingest.drafts import Draft, Sender, Sent, document_of, key_of, placed, signature, times, unusable

_FORM = ("Content-Type", "application/x-www-form-urlencoded")


def _words(draft: Draft) -> dict[str, str]:
    return {
        "secret": draft.secret,
        "id": draft.delivery_id,
        "event": draft.event,
        "family": draft.event.partition(".")[0],
        "url": draft.url,
        "method": draft.method,
        **times(draft.now),
    }


def _mac(headers: dict[str, str], before: str = "", after: str = "", how: str = "sha256/hex") -> Sender:
    """A sender that signs what stands before the body, the body, and what stands after it."""
    algorithm, _, encoding = how.partition("/")

    def send(draft: Draft) -> Sent:
        words = _words(draft)
        message = before.format_map(words).encode() + draft.body + after.format_map(words).encode()
        words["mac"] = signature(key_of(draft.secret), message, algorithm, encoding)
        return Sent([(name, form.format_map(words)) for name, form in headers.items()], draft.body)

    return send


def _token(headers: dict[str, str]) -> Sender:
    """A sender that shows the secret itself."""

    def send(draft: Draft) -> Sent:
        key_of(draft.secret)
        words = _words(draft)
        return Sent([(name, form.format_map(words)) for name, form in headers.items()], draft.body)

    return send


def _with_url(sender: Sender) -> Sender:
    def send(draft: Draft) -> Sent:
        if not draft.url:
            raise unusable("url: expected the source's public URL, because the sender signs it, got none")
        return sender(draft)

    return send


def _linear(draft: Draft) -> Sent:
    headers = {"Linear-Signature": "{mac}", "Linear-Delivery": "{id}", "Linear-Event": "{family}"}
    document_of(draft.body, "Linear")
    stamped = placed(draft.body, "/webhookTimestamp", int(draft.now * 1000))
    return _mac(headers)(msgspec.structs.replace(draft, body=stamped))


def standard(draft: Draft) -> Sent:
    """As Standard Webhooks 1.0.0: `{id}.{time}.{body}`, the key in base64 after `whsec_`."""
    text = draft.secret.strip().removeprefix("whsec_")
    key = key_of(text + "=" * (-len(text) % 4), "base64")
    stamp = str(int(draft.now))
    message = f"{draft.delivery_id}.{stamp}.".encode() + draft.body
    headers = [
        ("webhook-id", draft.delivery_id),
        ("webhook-timestamp", stamp),
        ("webhook-signature", f"v1,{signature(key, message, 'sha256', 'base64')}"),
    ]
    return Sent(headers, draft.body)


def _gitlab(draft: Draft) -> Sent:
    """With a signing token (`whsec_…`) as Standard Webhooks, with a secret token as it is."""
    headers = [("X-Gitlab-Event", draft.event), ("Idempotency-Key", draft.delivery_id)]
    if draft.secret.startswith("whsec_"):
        return Sent([*headers, *standard(draft).headers], draft.body)
    return Sent([*headers, *_token({"X-Gitlab-Token": "{secret}"})(draft).headers], draft.body)


def _twilio(draft: Draft) -> Sent:
    """A form: URL, then every name and value, sorted. JSON: the URL, whose query has the body's SHA-256."""
    key, query, form = key_of(draft.secret), "", ""
    if draft.body[:1] in (b"{", b"["):
        query = f"bodySHA256={hashlib.sha256(draft.body).hexdigest()}"
    else:
        pairs = set(parse_qsl(draft.body.decode("utf-8", "replace"), keep_blank_values=True))
        form = "".join(name + value for name, value in sorted(pairs))
    url = draft.url + (("&" if "?" in draft.url else "?") + query if query else "")
    headers = [
        ("Content-Type", "application/json") if query else _FORM,
        ("I-Twilio-Idempotency-Token", draft.delivery_id),
        ("X-Twilio-Signature", signature(key, (url + form).encode(), "sha1", "base64")),
    ]
    return Sent(headers, draft.body, query)


def _mailgun(draft: Draft) -> Sent:
    """The signature is in the body, over a time and a token that is used once."""
    key, document = key_of(draft.secret), document_of(draft.body, "Mailgun")
    stamp = str(int(draft.now))
    token = hashlib.sha256(f"{draft.delivery_id} {draft.event} {draft.now}".encode()).hexdigest()[:50]
    signed = {
        "timestamp": stamp,
        "token": token,
        "signature": signature(key, f"{stamp}{token}".encode(), "sha256", "hex"),
    }
    rest = document if "event-data" in document else {"event-data": document}
    return Sent([], msgspec.json.encode({**rest, "signature": signed}))


def _adyen(draft: Draft) -> Sent:
    """Every item has a signature of its own, over eight of its members."""
    key, document = key_of(draft.secret, "hex"), document_of(draft.body, "Adyen")
    try:
        items = [wrapped["NotificationRequestItem"] for wrapped in document["notificationItems"]]
        for item in items:
            mac = signature(key, _adyen_text(item).encode(), "sha256", "base64")
            item["additionalData"] = {**item.get("additionalData", {}), "hmacSignature": mac}
    except (KeyError, TypeError, AttributeError):
        raise unusable("body: expected notificationItems[].NotificationRequestItem, got something else") from None
    return Sent([], msgspec.json.encode(document))


def _adyen_text(item: dict[str, Any]) -> str:
    names = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")
    amount, success = item["amount"], item["success"]
    after = (amount["value"], amount["currency"], item["eventCode"], str(success).lower())
    return ":".join(str(part) for part in (*(item.get(name) or "" for name in names), *after))


def basic(draft: Draft) -> Sent:
    """RFC 7617."""
    user, colon, password = draft.secret.partition(":")
    if not (user.strip() and colon and password.strip()):
        raise unusable("secret: expected user:password, got something else")
    encoded = binascii.b2a_base64(draft.secret.encode(), newline=False).decode()
    return Sent([("Authorization", f"Basic {encoded}")], draft.body)


def _unsigned(draft: Draft) -> Sent:
    return Sent([], draft.body)


_Table = dict[str, Callable[[Draft], Sent]]

SENDERS: _Table = {
    "github": _mac(
        {"X-GitHub-Event": "{family}", "X-GitHub-Delivery": "{id}", "X-Hub-Signature-256": "sha256={mac}"},
    ),
    "gitlab": _gitlab,
    "bitbucket": _mac({"X-Event-Key": "{event}", "X-Request-UUID": "{id}", "X-Hub-Signature": "sha256={mac}"}),
    "linear": _linear,
    "sentry": _mac({"Sentry-Hook-Resource": "{family}", "Request-ID": "{id}", "Sentry-Hook-Signature": "{mac}"}),
    "stripe": _mac({"Stripe-Signature": "t={s},v1={mac}"}, before="{s}."),
    "square": _with_url(_mac({"x-square-hmacsha256-signature": "{mac}"}, before="{url}", how="sha256/base64")),
    "paddle": _mac({"Paddle-Signature": "ts={s};h1={mac}"}, before="{s}:"),
    "shopify": _mac(
        {"X-Shopify-Topic": "{event}", "X-Shopify-Webhook-Id": "{id}", "X-Shopify-Hmac-SHA256": "{mac}"},
        how="sha256/base64",
    ),
    "adyen": _adyen,
    "slack": _mac({"X-Slack-Request-Timestamp": "{s}", "X-Slack-Signature": "v0={mac}"}, before="v0:{s}:"),
    "twilio": _with_url(_twilio),
    "mailgun": _mailgun,
    "telegram": _token({"X-Telegram-Bot-Api-Secret-Token": "{secret}"}),
    "meta": _mac({"X-Hub-Signature-256": "sha256={mac}"}),
    "x": _mac({"x-twitter-webhooks-signature": "sha256={mac}"}, how="sha256/base64"),
    "zoom": _mac({"x-zm-request-timestamp": "{s}", "x-zm-signature": "v0={mac}"}, before="v0:{s}:"),
    "hubspot": _with_url(
        _mac(
            {"X-HubSpot-Request-Timestamp": "{ms}", "X-HubSpot-Signature-v3": "{mac}"},
            before="{method}{url}",
            after="{ms}",
            how="sha256/base64",
        )
    ),
    "intercom": _mac({"X-Hub-Signature": "sha1={mac}"}, how="sha1/hex"),
    "zendesk": _mac(
        {
            "X-Zendesk-Webhook-Invocation-Id": "{id}",
            "X-Zendesk-Webhook-Signature-Timestamp": "{iso8601}",
            "X-Zendesk-Webhook-Signature": "{mac}",
        },
        before="{iso8601}",
        how="sha256/base64",
    ),
    "typeform": _mac({"Typeform-Signature": "sha256={mac}"}, how="sha256/base64"),
    "docusign": _mac({"X-DocuSign-Signature-1": "{mac}"}, how="sha256/base64"),
    "pagerduty": _mac({"X-PagerDuty-Signature": "v1={mac}"}),
    "okta": _token({"Authorization": "{secret}"}),
    "standard": standard,
    "cloudevents": _token(
        {
            "Authorization": "Bearer {secret}",
            "ce-specversion": "1.0",
            "ce-id": "{id}",
            "ce-source": "/headrace/send",
            "ce-type": "{event}",
        }
    ),
    "generic": _mac({"X-Delivery-Id": "{id}", "X-Event-Type": "{event}", "X-Signature": "{mac}"}),
    "none": _unsigned,
}
"""By preset. Those that are missing sign with a private key of their own: SendGrid, Discord, PayPal, Amazon SNS."""
