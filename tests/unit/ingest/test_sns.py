"""Amazon SNS: what is signed as its documentation says passes, if it is of one of the source's topics."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from hypothesis import given
from hypothesis import strategies as st

from ingest.verify.base import NO_SECRET, Refused, Site, Verified, Verifier, Wanted
from ingest.verify.sns import MOST_BYTES, Sns
from tests.unit.ingest.authority import certificate, rsa_key
from tests.unit.ingest.requests import NOW, request

TOPIC = "arn:aws:sns:us-west-2:123456789012:MyTopic"
CHINA = "arn:aws-cn:sns:cn-north-1:123456789012:MyTopic.fifo"
URL = "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"
OPTIONS = {"topics": f"{TOPIC}, {CHINA}"}
NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": TOPIC,
    "Message": "Hello ☸\nMessageId\nworld",
    "Timestamp": "2012-05-02T00:54:06.655Z",
    "SigningCertURL": URL,
    "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe",
}
CONFIRMATION = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
    "Token": "2336412f37",
    "TopicArn": TOPIC,
    "Message": "You have chosen to subscribe",
    "SubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=2336412f37",
    "Timestamp": "2012-04-26T20:45:04.751Z",
    "SigningCertURL": URL,
}
_SHORT = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_LONG = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


def signed(message: dict[str, Any], version: str = "1", key: str = "sns") -> dict[str, Any]:
    """As docs.aws.amazon.com/sns, "Verifying the signatures of Amazon SNS messages", has it."""
    names = _SHORT if message["Type"] == "Notification" else _LONG
    text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    raw = rsa_key(key).sign(text.encode(), PKCS1v15(), SHA1() if version == "1" else SHA256())
    return message | {"SignatureVersion": version, "Signature": base64.b64encode(raw).decode()}


def verifier(options: dict[str, str] = OPTIONS, known: bool = True) -> Verifier:
    return Sns().compile([], Site(options=options, certificates={URL: certificate("sns")} if known else {}))


def verdict(message: Any, verify: Verifier | None = None) -> object:
    return (verify or verifier())(request(json.dumps(message).encode(), ("content-type", "text/plain")), NOW)


MESSAGES = [
    NOTIFICATION,
    NOTIFICATION | {"Subject": "A subject ☸"},
    CONFIRMATION,
    CONFIRMATION | {"Type": "UnsubscribeConfirmation"},
]


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("message", MESSAGES)
def test_every_type_passes_in_both_signature_versions(message: dict[str, Any], version: str) -> None:
    assert verdict(signed(message, version)) == Verified(NO_SECRET)


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8", exclude_characters="\n")))
def test_any_text_passes(message: str, subject: str) -> None:
    assert verdict(signed(NOTIFICATION | {"Message": message, "Subject": subject}, "2")) == Verified(NO_SECRET)


SUBJECT = NOTIFICATION | {"Subject": "s"}
UNSIGNED = ("Signature", "SignatureVersion", "SigningCertURL")


@pytest.mark.parametrize(
    ("base", "name"),
    [(SUBJECT, name) for name in (*_SHORT, *UNSIGNED)] + [(CONFIRMATION, name) for name in (*_LONG, *UNSIGNED)],
    ids=lambda value: value if isinstance(value, str) else value["Type"],
)
def test_damage_is_refused(base: dict[str, Any], name: str) -> None:
    good = signed(base)
    values: list[Any] = [f"{good[name]}x", "", "☸", None, 1, []]
    for value in values:
        assert isinstance(verdict(good | {name: value}), Refused), value
    assert isinstance(verdict({key: value for key, value in good.items() if key != name}), Refused)


def test_another_accounts_topic_is_refused_however_well_it_is_signed() -> None:
    theirs = signed(NOTIFICATION | {"TopicArn": TOPIC.replace("1234", "9999")})
    assert verdict(theirs) == Refused("the message's topic is not one of this source's")
    assert isinstance(verdict(signed(NOTIFICATION, key="other")), Refused)
    assert isinstance(verdict(signed(NOTIFICATION) | {"SignatureVersion": "3"}), Refused)
    assert isinstance(verdict(signed(NOTIFICATION) | {"SignatureVersion": "2"}), Refused)


def test_a_value_with_a_line_feed_cannot_pass_for_two_signed_lines() -> None:
    good = signed(NOTIFICATION)
    split = good | {"Message": "Hello ☸", "MessageId": f"world\nMessageId\n{NOTIFICATION['MessageId']}"}
    assert verdict(split) == Refused("the message's MessageId holds a line feed")


def test_a_certificate_that_is_not_known_is_wanted_from_the_topics_region_alone() -> None:
    fresh = verifier(known=False)
    assert verdict(signed(NOTIFICATION), fresh) == Wanted(URL)
    china = "https://sns.cn-north-1.amazonaws.com.cn/a.pem"
    assert verdict(signed(NOTIFICATION | {"TopicArn": CHINA, "SigningCertURL": china}), fresh) == Wanted(china)
    for url in (
        URL.replace("https", "http"),
        URL.replace("us-west-2", "eu-west-1"),
        URL.replace(".com/", ".com.cn/"),
        URL.replace(".com/", ".com.evil.example/"),
        URL.replace(".com/", ".com:8443/"),
        URL.replace(".com/", ".com@evil.example/"),
        URL.replace("sns.us", "evil.sns.us"),
        URL.replace("sns.us-west-2.amazonaws", "snsxus-west-2xamazonaws"),
        URL.replace("/Simple", "/../Simple"),
        URL.replace(".pem", ".txt"),
        URL + "?x",
        URL + "\n",
        "",
    ):
        assert isinstance(verdict(signed(NOTIFICATION | {"SigningCertURL": url}), fresh), Refused), url


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"hello", b"\xff", b"[" * 100_000])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    assert verifier()(request(body), NOW) == Refused("the body is not an SNS message")


def test_the_longest_body_passes_and_a_longer_one_is_not_read() -> None:
    body = json.dumps(signed(NOTIFICATION | {"Message": "\x01" * (256 << 10)})).encode()
    assert len(body) > 1 << 20
    assert verifier()(request(body.ljust(MOST_BYTES)), NOW) == Verified(NO_SECRET)
    expected = Refused(f"the body has {MOST_BYTES + 1} bytes; at most {MOST_BYTES} are accepted")
    assert verifier()(request(body.ljust(MOST_BYTES + 1)), NOW) == expected


def test_raw_delivery_is_refused_with_what_to_do() -> None:
    raw = verifier()(request(b"hello", ("x-amz-sns-rawdelivery", "true")), NOW)
    assert raw == Refused("raw message delivery carries no signature; switch it off in the subscription")


@pytest.mark.parametrize("topics", ["", " , ", "MyTopic", TOPIC + "/x", TOPIC.replace("sns", "sqs"), f"{TOPIC},x", "☸"])
def test_without_topics_everything_is_refused(topics: str) -> None:
    assert Sns().faults(Site(options={"topics": topics}))[0].startswith("options.topics: expected")
    assert verdict(signed(NOTIFICATION), verifier({"topics": topics})) == Refused("the source has no usable topics")


def test_it_has_no_secret() -> None:
    assert Sns().secretless
    assert not Sns().faults(Site(options=OPTIONS))
    with pytest.raises(ValueError, match="expected no secret"):
        Sns().check_secret(b"x")
