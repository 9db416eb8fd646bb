"""Handshakes: each provider's greeting is answered as its documentation says, and nothing else is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.handshake_signed import DISCORD, SLACK, SNS, ZOOM
from ingest.handshake_unsigned import CLOUDEVENTS, INTERCOM, META, OKTA, X
from ingest.handshakes import MOST_BODY, MOST_CHALLENGE, Answer, Handshake, Keys
from ingest.providers import PRESETS
from ingest.verify.base import Incoming, Refused, Site, Verified
from tests.unit.ingest.requests import NOW, request
from tests.unit.ingest.test_sns import CONFIRMATION, NOTIFICATION, TOPIC, URL

ALL = {
    "slack": SLACK,
    "zoom": ZOOM,
    "discord": DISCORD,
    "sns": SNS,
    "meta": META,
    "x": X,
    "okta": OKTA,
    "intercom": INTERCOM,
    "cloudevents": CLOUDEVENTS,
}
KEYS = Keys(signing=[b"first", b"second"], handshake=[b"", b"verify me", "ß".encode()], site=Site())


def posted(content: Any, *headers: tuple[str, str]) -> Incoming:
    return request(content if isinstance(content, bytes) else json.dumps(content).encode(), *headers)


def get(query: str, *headers: tuple[str, str], method: str = "GET") -> Incoming:
    return request(b"", *headers, query=query.encode(), method=method)


def answered(handshake: Handshake, incoming: Incoming, keys: Keys = KEYS) -> Answer:
    answer = handshake.answer(incoming, keys)
    assert answer is not None
    assert answer.status == 204 or dict(answer.headers)[b"x-content-type-options"] == b"nosniff"
    return answer


@pytest.mark.parametrize("name", [name for name in ALL if name in PRESETS])
def test_every_handshake_is_its_presets(name: str) -> None:
    assert PRESETS[name].handshake is ALL[name]


@pytest.mark.parametrize("name", ALL)
def test_only_what_nothing_signs_is_answered_before_verification(name: str) -> None:
    assert ALL[name].before is (name in ("meta", "x", "okta", "intercom", "cloudevents"))
    assert bool(ALL[name].methods) is ALL[name].before


@pytest.mark.parametrize("name", ALL)
@given(
    body=st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode),
    query=st.binary(max_size=80) | st.sampled_from([b"crc_token", b"hub.mode=subscribe", b"%ff=%ff", b"&" * 9000]),
    headers=st.dictionaries(
        st.sampled_from([b"x-okta-verification-challenge", b"webhook-request-origin", b"x-zm-signature"]),
        st.binary(max_size=40),
    ),
    method=st.sampled_from(["GET", "POST", "OPTIONS", "HEAD", "ß"]),
)
def test_nothing_that_is_sent_makes_one_raise(
    name: str, body: bytes, query: bytes, headers: dict[bytes, bytes], method: str
) -> None:
    ALL[name].answer(Incoming(method, "/in/x", query, headers, body), KEYS)


# Slack


def test_slack_gets_its_challenge_back_escaped() -> None:
    challenge = '3eZbrw</script>"☸\\\n'
    answer = answered(SLACK, posted({"token": "t", "challenge": challenge, "type": "url_verification"}))
    assert (answer.about, answer.status) == ("slack.url_verification", 200)
    assert dict(answer.headers)[b"content-type"] == b"application/json"
    assert json.loads(answer.body) == {"challenge": challenge}
    assert b"\n" not in answer.body


@pytest.mark.parametrize(
    "content",
    [
        {"type": "event_callback", "challenge": "c"},
        {"type": "url_verification"},
        {"type": "url_verification", "challenge": ""},
        {"type": "url_verification", "challenge": 1},
        {"type": "url_verification", "challenge": "c" * (MOST_CHALLENGE + 1)},
        {"type": "url_verification", "challenge": "c", "more": "m" * MOST_BODY},
        b"payload=%7B%7D",
        b"",
    ],
)
def test_what_is_no_slack_challenge_is_a_delivery(content: Any) -> None:
    assert SLACK.answer(posted(content), KEYS) is None


# Zoom


def zoom(token: str, key: bytes, event: str = "endpoint.url_validation") -> Incoming:
    body = json.dumps({"event": event, "payload": {"plainToken": token}, "event_ts": 1654503849680}).encode()
    stamp = str(int(NOW))
    signature = hmac.new(key, b"v0:%b:%b" % (stamp.encode(), body), hashlib.sha256).hexdigest()
    return request(body, ("x-zm-request-timestamp", stamp), ("x-zm-signature", f"v0={signature}"))


@pytest.mark.parametrize("key", [b"first", b"second"])
def test_zoom_gets_its_token_encrypted_by_the_secret_that_it_knows(key: bytes) -> None:
    incoming = zoom("qgg8vlvZRS6UYooatFL8Aw", key)
    assert isinstance(PRESETS["zoom"].scheme.compile([key], Site())(incoming, NOW), Verified)
    answer = answered(ZOOM, incoming)
    encrypted = hmac.new(key, b"qgg8vlvZRS6UYooatFL8Aw", hashlib.sha256).hexdigest()
    assert json.loads(answer.body) == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": encrypted}
    assert answer.about == "zoom.endpoint.url_validation"


def test_what_is_no_zoom_validation_is_a_delivery() -> None:
    for incoming in (zoom("t", b"first", "meeting.started"), zoom("", b"first"), zoom("t" * 1025, b"first")):
        assert ZOOM.answer(incoming, KEYS) is None
    assert ZOOM.answer(zoom("t", b"third"), KEYS) is None
    assert ZOOM.answer(posted({"event": "endpoint.url_validation"}), KEYS) is None


# Discord


def test_discords_pings_are_answered_each_in_its_way() -> None:
    ping = answered(DISCORD, posted({"version": 1, "application_id": "1", "type": 0}))
    assert (ping.about, ping.status, ping.body) == ("discord.ping", 204, b"")
    assert dict(ping.headers)[b"content-type"] == b"application/json"
    pong = answered(DISCORD, posted({"id": "1", "token": "t", "application_id": "1", "type": 1, "version": 1}))
    assert (pong.about, pong.status, pong.body) == ("discord.interaction_ping", 200, b'{"type":1}')


@pytest.mark.parametrize(
    "content", [{"type": 1, "event": {"type": "ENTITLEMENT_CREATE"}}, {"type": 2}, {"type": "0"}, {}, [], b""]
)
def test_a_discord_event_or_command_is_a_delivery(content: Any) -> None:
    assert DISCORD.answer(posted(content), KEYS) is None


# Amazon SNS

AT_TOPIC = Keys(signing=[], handshake=[], site=Site(options={"topics": TOPIC}))
SIGNED = CONFIRMATION | {"SignatureVersion": "1", "Signature": "checked before", "SigningCertURL": URL}


def test_a_subscription_is_confirmed_at_the_sns_host_of_the_topic() -> None:
    answer = answered(SNS, posted(SIGNED), AT_TOPIC)
    assert (answer.about, answer.status) == ("sns.SubscriptionConfirmation", 200)
    assert answer.confirm == CONFIRMATION["SubscribeURL"]


SUBSCRIBE = str(CONFIRMATION["SubscribeURL"])


@pytest.mark.parametrize(
    "more",
    [
        {"Type": "UnsubscribeConfirmation"},
        {"Type": "Notification"},
        {"TopicArn": TOPIC + "2"},
        {"SubscribeURL": None},
        {"SubscribeURL": SUBSCRIBE.replace("https", "http")},
        {"SubscribeURL": SUBSCRIBE.replace("us-west-2", "us-east-1")},
        {"SubscribeURL": SUBSCRIBE.replace(".com/", ".com.evil.example/")},
        {"SubscribeURL": SUBSCRIBE.replace(".com/", ".com:81/")},
        {"SubscribeURL": SUBSCRIBE.replace(".com/", ".com/x")},
        {"SubscribeURL": SUBSCRIBE.replace("ConfirmSubscription", "DeleteTopic")},
        {"SubscribeURL": SUBSCRIBE + "\r\nx: y"},
    ],
)
def test_nothing_else_is_called(more: dict[str, Any]) -> None:
    assert SNS.answer(posted(SIGNED | more), AT_TOPIC) is None
    assert SNS.answer(posted(SIGNED | NOTIFICATION), AT_TOPIC) is None


# Meta


def meta(token: str = "verify+me", challenge: str = "1158201444", mode: str = "subscribe", more: str = "") -> Incoming:
    return get(f"hub.mode={mode}&hub.challenge={challenge}&hub.verify_token={token}{more}")


def test_meta_gets_its_challenge_back_as_text_if_it_knows_the_token() -> None:
    answer = answered(META, meta())
    assert (answer.about, answer.status, answer.body) == ("meta.subscribe", 200, b"1158201444")
    assert dict(answer.headers)[b"content-type"] == b"text/plain; charset=utf-8"
    assert answered(META, meta("%C3%9F")).body == b"1158201444"


@pytest.mark.parametrize(
    "incoming",
    [
        meta(""),
        meta("wrong"),
        meta("first"),
        meta(mode="unsubscribe"),
        meta(challenge=""),
        meta(challenge="%3Cscript%3E"),
        meta(challenge="a%0D%0Ab"),
        meta(challenge="%E2%98%B8"),
        meta(challenge="1" * (MOST_CHALLENGE + 1)),
        meta(more="&hub.verify_token=wrong"),
        meta(more="&hub.challenge=2"),
        meta(more="&a=b" * 64),
        meta(more="&a=" + "b" * 9000),
        get("hub.mode=subscribe&hub.challenge=1"),
        get("hub.mode=subscribe&hub.challenge=1&hub.verify_token=verify+me", method="POST"),
    ],
)
def test_no_other_verification_of_meta_is_answered(incoming: Incoming) -> None:
    assert META.answer(incoming, KEYS) is None


def test_without_a_token_for_handshakes_meta_is_not_answered() -> None:
    for known in ([], [b""], [b" "]):
        keys = Keys(signing=[b"first"], handshake=known, site=Site())
        for token in ("", "+", "first"):
            assert META.answer(meta(token), keys) is None


# X


def test_x_gets_its_token_signed_by_the_first_secret() -> None:
    token = "9b4507b3-9040-4669-9ca3-6b94edb50553"
    answer = answered(X, get(f"crc_token={token}&nonce=1"))
    digest = base64.b64encode(hmac.new(b"first", token.encode(), hashlib.sha256).digest()).decode()
    assert json.loads(answer.body) == {"response_token": f"sha256={digest}"}
    assert answer.about == "x.crc"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "crc_token=",
        "crc_token=a&crc_token=b",
        "crc_token=%7B%22a%22%3A1%7D",
        "crc_token=%5B1%5D",
        "crc_token=%E2%98%B8",
        "crc_token=%22a%22",
        "crc_token=" + "a" * (MOST_CHALLENGE + 1),
    ],
)
def test_no_other_token_of_x_is_signed(query: str) -> None:
    assert X.answer(get(query), KEYS) is None
    assert X.answer(get("crc_token=a", method="POST"), KEYS) is None
    assert X.answer(get("crc_token=a"), Keys(signing=[], handshake=[], site=Site())) is None


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60))
def test_whatever_x_is_answered_is_no_signature_of_a_delivery(token: str) -> None:
    verify = PRESETS["x"].scheme.compile([b"first"], Site())
    delivery = b'{"tweet_create_events":[]}'
    digest = base64.b64encode(hmac.new(b"first", delivery, hashlib.sha256).digest()).decode()
    assert verify(request(delivery, ("x-twitter-webhooks-signature", f"sha256={digest}")), NOW) == Verified(0)
    query = "crc_token=" + "".join(f"%{ord(character):02X}" for character in token)
    answer = X.answer(get(query), KEYS)
    if answer is not None:
        signature = json.loads(answer.body)["response_token"]
        forged = request(token.encode(), ("x-twitter-webhooks-signature", signature))
        assert verify(forged, NOW) == Refused("the body is not a JSON object from its first character")


# Okta


def test_okta_gets_its_challenge_back() -> None:
    challenge = 'my "verification" <challenge>'
    answer = answered(OKTA, get("", ("x-okta-verification-challenge", challenge)))
    assert json.loads(answer.body) == {"verification": challenge}
    assert answer.about == "okta.verification"


def test_no_other_request_of_okta_is_a_challenge() -> None:
    name = "x-okta-verification-challenge"
    assert OKTA.answer(get(""), KEYS) is None
    assert OKTA.answer(get("", (name, "a"), method="POST"), KEYS) is None
    assert OKTA.answer(get("", (name, "a"), (name, "b")), KEYS) is None
    for challenge in ("", "☸", "a\x00", "a" * (MOST_CHALLENGE + 1)):
        assert OKTA.answer(get("", (name, challenge)), KEYS) is None


# CloudEvents


def asked(origin: str, options: dict[str, str], *headers: tuple[str, str], method: str = "OPTIONS") -> Answer | None:
    keys = Keys(signing=[b"first"], handshake=[], site=Site(options=options))
    return CLOUDEVENTS.answer(get("", ("webhook-request-origin", origin), *headers, method=method), keys)


def test_an_origin_is_granted_the_right_to_send() -> None:
    answer = asked("eventemitter.example.com", {}, ("webhook-request-rate", "120"))
    assert answer is not None
    assert (answer.about, answer.status, answer.body) == ("cloudevents.webhook_request", 200, b"")
    headers = dict(answer.headers)
    assert headers[b"webhook-allowed-origin"] == b"eventemitter.example.com"
    assert headers[b"webhook-allowed-rate"] == b"*"
    assert headers[b"allow"] == b"POST"


def test_origins_and_the_rate_may_be_limited() -> None:
    options = {"allowed_origin": "a.example.com, B.example.com", "allowed_rate": "100"}
    answer = asked("b.Example.com", options)
    assert answer is not None
    assert dict(answer.headers)[b"webhook-allowed-origin"] == b"b.Example.com"
    assert dict(answer.headers)[b"webhook-allowed-rate"] == b"100"
    assert asked("c.example.com", options) is None
    assert asked("", options) is None


def test_no_other_request_is_granted_anything() -> None:
    for origin in ("*", "☸", "a b", "a\x00", "a" * 256, "a\r\nx: y", "-"):
        assert asked(origin, {}) is None
    assert asked("a.example.com", {}, method="POST") is None
    assert asked("a.example.com", {}, ("webhook-request-origin", "b.example.com")) is None
    for rate in ("0", "-1", "many", "1\r\nx: y"):
        assert asked("a.example.com", {"allowed_rate": rate}) is None


def test_intercom_is_told_with_head_that_someone_is_there() -> None:
    asked = request(b"", method="HEAD")
    answer = answered(INTERCOM, asked)
    assert (answer.about, answer.status, answer.body) == ("intercom.head", 200, b"")
    assert INTERCOM.answer(request(b"", method="GET"), KEYS) is None
    assert INTERCOM.answer(posted({"topic": "ping"}), KEYS) is None
