"""Amazon SNS: the JSON body signs itself, with RSA and a certificate on an SNS host.

Promises: everyone with an AWS account can have a topic of their own that SNS signs for, so a message passes only if its
topic is one of the source's. Its certificate, and what confirms a subscription, lie on the SNS host of that topic's
region. A value that holds a line feed could pass for two signed lines, so only `Message` may hold one. Sources:
docs.aws.amazon.com/sns, "Verifying the signatures of Amazon SNS messages"; the host pattern of AWS's own validators.
"""

from __future__ import annotations

import re
from collections.abc import Set

import msgspec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from ingest.verify.base import (
    NO_SECRET,
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verified,
    Verifier,
    Wanted,
    refuse_all,
)
from ingest.verify.pinned import public_key_at, signature_of, signed_by

MOST_TOPICS = 64
"""Of one source."""
MOST_BYTES = 4 << 20
"""Of a body. A message has at most 256 KiB, each byte of which takes at most six as JSON."""

_HOST = r"https://sns\.(?P<region>[a-z0-9-]{3,32})\.amazonaws\.com(?P<china>\.cn)?"
CERTIFICATE_URL = re.compile(_HOST + r"/[A-Za-z0-9_-]{1,120}\.pem")
"""Where SNS's certificates are, as a whole."""
SUBSCRIBE_URL = re.compile(_HOST + r"/\?Action=ConfirmSubscription&[A-Za-z0-9=&%:._~-]{1,2048}")
"""What a subscription is confirmed with, as a whole."""

_TOPIC = re.compile(
    r"arn:(?P<partition>aws[a-z-]{0,16}):sns:(?P<region>[a-z0-9-]{3,32}):[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?"
)
_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}


class Message(msgspec.Struct, frozen=True, rename="pascal"):
    """What SNS posts, whatever it is."""

    type: str
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature: str
    signature_version: str
    certificate: str = msgspec.field(name="SigningCertURL")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(name="SubscribeURL", default=None)


decode = msgspec.json.Decoder(Message).decode
FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)
"""What `decode` may raise."""


class Sns(Description, frozen=True, tag_field="scheme", tag="sns"):
    """Option `topics`. Signature version 1 is RSA-SHA1, version 2 (a topic's `SignatureVersion` attribute) RSA-SHA256.

    No age is checked: `Timestamp` is when a message was published, not sent, and `MessageId`, which is signed, is the
    dedup key.
    """

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        if self.faults(site):
            return refuse_all("the source has no usable topics")
        topics, certificates = set(topics_of(site)), site.certificates

        def verify(incoming: Incoming, now: float) -> Verification:
            message = _read(incoming, topics)
            if isinstance(message, Refused):
                return message
            text, algorithm = canonical(message), _ALGORITHMS.get(message.signature_version)
            if isinstance(text, Refused):
                return text
            if algorithm is None:
                return Refused("the message's SignatureVersion is neither 1 nor 2")
            key = public_key_at(message.certificate, certificates, now)
            if isinstance(key, Refused | Wanted):
                return key
            good = signed_by(key, signature_of(message.signature), text, algorithm)
            return Verified(NO_SECRET) if good else Refused("the signature does not match")

        return verify

    def check_secret(self, secret: bytes) -> None:
        raise ValueError("expected no secret, because SNS signs with its certificate, got one")

    def faults(self, site: Site) -> list[str]:
        given = topics_of(site)
        wrong = [topic for topic in given if not _TOPIC.fullmatch(topic)]
        if not given or len(given) > MOST_TOPICS:
            return [f"options.topics: expected 1 to {MOST_TOPICS} topic ARNs, separated by commas, got {len(given)}"]
        return [f"options.topics: expected arn:aws:sns:REGION:ACCOUNT:NAME, got {topic}" for topic in wrong]

    def summary(self) -> str:
        return "RSA of the message's signed lines, certificate at SNS; only the source's topics"

    @property
    def secretless(self) -> bool:
        return True


def topics_of(site: Site) -> list[str]:
    """The source's topics."""
    return [topic for part in site.options.get("topics", "").split(",") if (topic := part.strip())]


def _read(incoming: Incoming, topics: Set[str]) -> Message | Refused:
    """The message, if its topic and its certificate's address are what they should be."""
    if incoming.headers.get(b"x-amz-sns-rawdelivery", b"").lower() == b"true":
        return Refused("raw message delivery carries no signature; switch it off in the subscription")
    if len(incoming.body) > MOST_BYTES:
        return Refused(f"the body has {len(incoming.body)} bytes; at most {MOST_BYTES} are accepted")
    try:
        message = decode(incoming.body)
    except FAULTS:
        return Refused("the body is not an SNS message")
    if message.topic_arn not in topics:
        return Refused("the message's topic is not one of this source's")
    if not of_region(CERTIFICATE_URL, message.certificate, message.topic_arn):
        return Refused("the message's SigningCertURL is not an address of its region's certificates")
    return message


def canonical(message: Message) -> bytes | Refused:
    """What is signed: `Name\\nValue\\n` for each member of the message's type that is there, in the order of names."""
    names = _SIGNED.get(message.type)
    if names is None:
        return Refused("the message's Type is none that SNS signs")
    values = {
        "Message": message.message,
        "MessageId": message.message_id,
        "Subject": message.subject,
        "SubscribeURL": message.subscribe_url,
        "Timestamp": message.timestamp,
        "Token": message.token,
        "TopicArn": message.topic_arn,
        "Type": message.type,
    }
    lines: list[str] = []
    for name in names:
        value = values[name]
        if value is None and name != "Subject":
            return Refused(f"the message has no {name}")
        if value is not None:
            if "\n" in value and name != "Message":
                return Refused(f"the message's {name} holds a line feed")
            lines.append(f"{name}\n{value}\n")
    return "".join(lines).encode("utf-8", "surrogatepass")


def of_region(pattern: re.Pattern[str], url: str, topic: str) -> bool:
    """Whether an address has the form of the pattern and lies on the SNS host of the topic's region."""
    address, arn = pattern.fullmatch(url), _TOPIC.fullmatch(topic)
    if address is None or arn is None:
        return False
    return address["region"] == arn["region"] and (address["china"] is not None) == (arn["partition"] == "aws-cn")


_ALGORITHMS: dict[str, HashAlgorithm] = {"1": SHA1(), "2": SHA256()}  # noqa: S303 — version 1 is what SNS defaults to
