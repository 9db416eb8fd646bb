"""Greetings that are signed like any delivery, and answered once the signature was found good."""

from __future__ import annotations

import hmac

import msgspec

from ingest.handshakes import MOST_BODY, MOST_CHALLENGE, Answer, Handshake, Keys, json_answer
from ingest.verify import sns
from ingest.verify.base import Incoming


class _Slack(msgspec.Struct):
    type: str
    challenge: str


class _ZoomPayload(msgspec.Struct):
    token: str = msgspec.field(name="plainToken")


class _Zoom(msgspec.Struct):
    event: str
    payload: _ZoomPayload


class _Discord(msgspec.Struct):
    type: int
    event: msgspec.Raw = msgspec.Raw()


_slack = msgspec.json.Decoder(_Slack).decode
_zoom = msgspec.json.Decoder(_Zoom).decode
_discord = msgspec.json.Decoder(_Discord).decode
_FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)


def answer_slack(incoming: Incoming, keys: Keys) -> Answer | None:
    """Gives the challenge back. Source: docs.slack.dev, `url_verification`."""
    if len(incoming.body) > MOST_BODY:
        return None
    try:
        asked = _slack(incoming.body)
    except _FAULTS:
        return None
    if asked.type != "url_verification" or not 0 < len(asked.challenge) <= MOST_CHALLENGE:
        return None
    return json_answer("slack.url_verification", {"challenge": asked.challenge})


def answer_zoom(incoming: Incoming, keys: Keys) -> Answer | None:
    """Gives the token back, with its HMAC by the secret that signed the request.

    Source: developers.zoom.us, "Validate your webhook endpoint".
    """
    if len(incoming.body) > MOST_BODY:
        return None
    try:
        asked = _zoom(incoming.body)
        token = asked.payload.token.encode()
    except _FAULTS:
        return None
    key = _zoom_key(incoming, keys)
    if asked.event != "endpoint.url_validation" or not 0 < len(token) <= MOST_CHALLENGE or key is None:
        return None
    encrypted = hmac.digest(key, token, "sha256").hex()
    answer = {"plainToken": asked.payload.token, "encryptedToken": encrypted}
    return json_answer("zoom.endpoint.url_validation", answer)


def _zoom_key(incoming: Incoming, keys: Keys) -> bytes | None:
    """Which of several secrets is Zoom's at this time."""
    message = b"v0:%b:%b" % (incoming.headers.get(b"x-zm-request-timestamp", b""), incoming.body)
    given = incoming.headers.get(b"x-zm-signature", b"").lower()
    for key in keys.signing:
        if hmac.compare_digest(given, b"v0=" + hmac.digest(key, message, "sha256").hex().encode()):
            return key
    return None


def answer_discord(incoming: Incoming, keys: Keys) -> Answer | None:
    """204 for the ping of webhook events (type 0), a pong for that of interactions (type 1 without an event).

    Source: docs.discord.com, "Webhook Events" and "Interactions", both under "Acknowledging PING requests"; both ask
    for a content type.
    """
    if len(incoming.body) > MOST_BODY:
        return None
    try:
        asked = _discord(incoming.body)
    except _FAULTS:
        return None
    if bytes(asked.event):
        return None
    match asked.type:
        case 0:
            return Answer("discord.ping", status=204)
        case 1:
            return json_answer("discord.interaction_ping", {"type": 1})
        case _:
            return None


def answer_sns(incoming: Incoming, keys: Keys) -> Answer | None:
    """Confirms a subscription of one of the source's topics, at the SNS host of its region.

    Source: docs.aws.amazon.com/sns, "Confirming the subscription".
    """
    if len(incoming.body) > MOST_BODY:
        return None
    try:
        asked = sns.decode(incoming.body)
    except sns.FAULTS:
        return None
    if asked.type != "SubscriptionConfirmation" or asked.topic_arn not in sns.topics_of(keys.site):
        return None
    url = asked.subscribe_url or ""
    if not sns.of_region(sns.SUBSCRIBE_URL, url, asked.topic_arn):
        return None
    return Answer("sns.SubscriptionConfirmation", confirm=url)


SLACK = Handshake(answer_slack)
ZOOM = Handshake(answer_zoom)
DISCORD = Handshake(answer_discord)
SNS = Handshake(answer_sns)
