"""Signs requests as the senders of every scheme do, and says what of a request a signature vouches for.

Written against the senders' documents, by means of the standard library, and not against the verifiers. A scheme that
has no case here fails the run: it would not be fuzzed.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingest.verify.adyen import Adyen
from ingest.verify.anyof import AnyOf
from ingest.verify.apikey import ApiKey
from ingest.verify.base import Description, Site
from ingest.verify.basic import Basic
from ingest.verify.hubspot import HubSpot
from ingest.verify.mac import Hmac
from ingest.verify.mailgun import Mailgun
from ingest.verify.objects import Objects
from ingest.verify.paypal import PayPal
from ingest.verify.public_key import PublicKey
from ingest.verify.sns import Sns
from ingest.verify.standard import Standard
from ingest.verify.token import Bearer
from ingest.verify.twilio import Twilio
from ingest.verify.unsigned import Unsigned
from tests.fuzz.raw import Raw
from tests.unit.ingest.authority import rsa_key

TEXT = "It's a Secret to Everybody"
KEY = bytes(range(1, 33))
TOPIC = "arn:aws:sns:us-east-1:123456789012:orders"
PAYPAL_CERTIFICATE = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594"
SNS_CERTIFICATE = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-7ff5318490ec183fbaddaa2a969abfda.pem"
OPTIONS = {"webhook_id": "8PT597110X687430LKGECATA", "topics": TOPIC, "allowed_origin": "eventemitter.example.com"}

_ED25519 = Ed25519PrivateKey.from_private_bytes(KEY)
_P256 = ec.derive_private_key(int.from_bytes(KEY, "big") % (1 << 255), ec.SECP256R1())
_FORM = "application/x-www-form-urlencoded"
_HUBSPOT = {"3A": ":", "2F": "/", "3F": "?", "40": "@", "21": "!", "24": "$", "27": "'", "28": "(", "29": ")"} | {
    "2A": "*",
    "2C": ",",
    "3B": ";",
}


def secrets_for(scheme: Description) -> list[str]:
    """What a source with this scheme has in `secrets`: for `AnyOf` one for each scheme in it, else one or none."""
    match scheme:
        case AnyOf(schemes=schemes):
            return [secret for one in schemes for secret in secrets_for(one)]
        case Objects(inner=inner):
            return secrets_for(inner)
        case Hmac(key="text") | Bearer() | ApiKey() | Twilio() | HubSpot() | Mailgun():
            return [TEXT]
        case Hmac(key="hex") | Adyen():
            return [KEY.hex()]
        case Hmac(key="base64"):
            return [base64.b64encode(KEY).decode()]
        case Standard():
            return ["whsec_" + base64.b64encode(KEY).decode()]
        case Basic():
            return ["user:" + TEXT]
        case PublicKey(algorithm="ed25519"):
            return [_ED25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()]
        case PublicKey():
            der = _P256.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return [base64.b64encode(der).decode()]
        case PayPal() | Sns() | Unsigned():
            return []
        case _:
            raise NotImplementedError(f"tests/fuzz/signers.py: expected a case for {type(scheme).__name__}, got none")


def signed(scheme: Description, raw: Raw, site: Site, now: float, which: int = 0) -> Raw:
    """The request as a sender signs it; its body is put into what the scheme needs around it.

    Args:
        which: of several schemes, the one that the sender uses.
    """
    stamp = str(int(now))
    match scheme:
        case AnyOf(schemes=schemes):
            return signed(schemes[which % len(schemes)], raw, site, now)
        case Objects(inner=inner):
            return signed(inner, _as_object(raw), site, now)
        case Hmac():
            return _sign_hmac(scheme, raw, site, now)
        case Standard():
            raw = raw.with_headers(("webhook-id", "msg_1"), ("webhook-timestamp", stamp))
            mac = hmac.digest(KEY, b"msg_1.%b.%b" % (stamp.encode(), raw.body), "sha256")
            return raw.with_headers(("webhook-signature", "v1," + base64.b64encode(mac).decode()))
        case Bearer(header=header, prefix=prefix):
            return raw.with_headers((header, prefix + TEXT))
        case Basic():
            return raw.with_headers(("authorization", "Basic " + base64.b64encode(f"user:{TEXT}".encode()).decode()))
        case ApiKey(header=header, query=query):
            if header:
                return raw.with_headers((header, TEXT))
            return replace(raw, query=raw.query + b"&" + query.encode() + b"=" + TEXT.replace(" ", "+").encode())
        case PublicKey():
            raw = replace(raw, body=b" " + raw.body) if raw.body[:1].isdigit() else raw
            message = stamp.encode() + raw.body
            text = (
                _ED25519.sign(message).hex()
                if scheme.algorithm == "ed25519"
                else base64.b64encode(_P256.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True))).decode()
            )
            return raw.with_headers((scheme.timestamp, stamp), (scheme.header, text))
        case Twilio():
            return _sign_twilio(raw, site)
        case HubSpot():
            raw = _as_object(raw) if raw.body else raw
            stamp = str(int(now * 1000))
            message = b"".join((raw.method.encode(), _hubspot_url(raw, site), raw.body, stamp.encode()))
            mac = base64.b64encode(hmac.digest(TEXT.encode(), message, "sha256"))
            return raw.with_headers(("x-hubspot-request-timestamp", stamp), ("x-hubspot-signature-v3", mac))
        case Mailgun():
            token = sha256(raw.body).hexdigest()[:50]
            mac = hmac.digest(TEXT.encode(), (stamp + token).encode(), "sha256")
            signature = {"timestamp": stamp, "token": token, "signature": mac.hex()}
            return replace(raw, body=_json({"signature": signature, "event-data": {"id": "1", "body": _text(raw)}}))
        case PayPal():
            time = datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            line = f"69cd13f0-d67a-11e5-baa3-778b53f4ae55|{time}|{OPTIONS['webhook_id']}|{zlib.crc32(raw.body)}"
            made = base64.b64encode(rsa_key("paypal").sign(line.encode(), PKCS1v15(), SHA256()))
            return raw.with_headers(
                ("paypal-transmission-id", line.split("|", maxsplit=1)[0]),
                ("paypal-transmission-time", time),
                ("paypal-transmission-sig", made),
                ("paypal-auth-algo", "SHA256withRSA"),
                ("paypal-cert-url", PAYPAL_CERTIFICATE),
            )
        case Sns():
            return _sign_sns(raw, which)
        case Adyen():
            items = [_adyen_item(number, raw) for number in range(1 + which % 3)]
            return replace(raw, body=_json({"live": "false", "notificationItems": items}))
        case Unsigned():
            return raw
        case _:
            raise NotImplementedError(type(scheme).__name__)


def sealed(scheme: Description, raw: Raw, site: Site) -> object:
    """What of a request a signature of this scheme vouches for, or the credential where it vouches for nothing else.

    Two requests that differ in it need two signatures. None: nothing could be vouched for.
    """
    match scheme:
        case AnyOf(schemes=schemes):
            return [sealed(one, raw, site) for one in schemes]
        case Objects(inner=inner):
            return sealed(inner, raw, site)
        case Hmac():
            values = _hmac_values(scheme, raw, site)
            return {name: values[name] for name in values if f"{{{name}}}" in scheme.signed} | {
                "timestamp": values["timestamp"]
            }
        case Standard():
            family = "webhook" if any(name == b"webhook-id" for name, _ in raw.headers) else "svix"
            return raw.header(f"{family}-id"), raw.header(f"{family}-timestamp"), raw.body
        case Bearer(header=header, prefix=prefix):
            return raw.header(header)[len(prefix) :]
        case Basic():
            return _or_none(lambda: base64.b64decode(raw.header("authorization")[6:].strip()))
        case ApiKey(header=header, query=query):
            if header:
                return raw.header(header)
            pairs = parse_qsl(raw.query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
            return [value for name, value in pairs if name == query]
        case PublicKey():
            return raw.header(scheme.timestamp), raw.body
        case Twilio():
            return raw.query, _twilio_parameters(raw)
        case HubSpot():
            return raw.method, _hubspot_url(raw, site), raw.body, raw.header("x-hubspot-request-timestamp")
        case Mailgun():
            return _or_none(lambda: [str(_document(raw)["signature"][name]) for name in ("timestamp", "token")])
        case PayPal():
            return raw.header("paypal-transmission-id"), raw.header("paypal-transmission-time"), zlib.crc32(raw.body)
        case Sns():
            return _or_none(lambda: _sns_lines(_document(raw)))
        case Adyen():
            return _or_none(lambda: [_adyen_members(item) for item in _document(raw)["notificationItems"]])
        case Unsigned():
            return ()
        case _:
            raise NotImplementedError(type(scheme).__name__)


def proof(scheme: Description, raw: Raw) -> tuple[bytes, ...]:
    """The signatures or credentials that a request carries, in all the places where this scheme looks for them.

    Without the case and the padding that every encoding can do without.
    """
    match scheme:
        case AnyOf(schemes=schemes):
            found = [one for inner in schemes for one in proof(inner, raw)]
        case Objects(inner=inner):
            found = list(proof(inner, raw))
        case Hmac():
            pattern = re.compile(re.escape(scheme.header.lower()).replace(r"\{n\}", "[0-9]+").encode())
            values = [value for name, value in raw.headers if pattern.fullmatch(name)]
            found = [value.removeprefix(scheme.prefix.encode()) for value in values]
            if scheme.pairs is not None:
                separator, name = scheme.pairs.separator.encode(), scheme.pairs.signature.encode()
                pairs = [pair.strip(b" ").partition(b"=") for value in found for pair in value.split(separator)]
                found = [text for key, _, text in pairs if key == name]
        case Standard():
            found = [token for family in ("webhook", "svix") for token in raw.header(f"{family}-signature").split(b" ")]
        case PublicKey():
            found = [raw.header(scheme.header)]
        case Twilio():
            found = [raw.header("x-twilio-signature")]
        case HubSpot():
            found = [raw.header("x-hubspot-signature-v3")]
        case PayPal():
            found = [raw.header("paypal-transmission-sig")]
        case Mailgun() | Sns() | Adyen():
            found = [text.encode() for text in _texts(_or_none(lambda: _document(raw)))]
        case _:
            return ()  # what is sealed is the credential
    return tuple(one.lower().rstrip(b"=") for one in found)


def _texts(document: object) -> list[str]:
    """All texts in a document."""
    match document:
        case str():
            return [document]
        case dict():
            return [text for value in document.values() for text in _texts(value)]
        case list():
            return [text for value in document for text in _texts(value)]
        case _:
            return []


def _sign_hmac(scheme: Hmac, raw: Raw, site: Site, now: float) -> Raw:
    time = scheme.timestamp
    stamp = ""
    if any(address + "{body}" in scheme.signed for address in ("{url}", "{path}", "{query}")):
        raw = _as_object(raw)  # Square's bodies are; nothing else could be told from the end of the address
    if time is not None:
        stamp = str(int(now * 1000) if time.unit == "ms" else int(now))
        if time.unit == "iso8601":
            stamp = datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if time.pointer:
            name = time.pointer.strip("/")
            assert "/" not in name, "only members of the document itself are written here"
            raw = replace(raw, body=_json({name: stamp if time.unit == "iso8601" else int(stamp), "body": _text(raw)}))
        elif time.header:
            raw = raw.with_headers((time.header, stamp))
    if "{id}" in scheme.signed:
        raw = raw.with_headers((scheme.id_header, "msg_1"))
    header = scheme.header.replace("{n}", "1")
    if scheme.pairs is not None and scheme.pairs.timestamp:
        draft = raw.with_headers((header, f"{scheme.pairs.timestamp}={stamp}"))
    else:
        draft = raw
    values = _hmac_values(scheme, draft, site)
    parts = scheme.signed.split("{")
    message = parts[0].encode() + b"".join(
        values[name] + literal.encode() for name, _, literal in (part.partition("}") for part in parts[1:])
    )
    mac = hmac.digest(TEXT.encode() if scheme.key == "text" else KEY, message, scheme.algorithm)
    coders: dict[str, Callable[[bytes], bytes]] = {
        "hex": lambda digest: digest.hex().encode(),
        "base64": base64.b64encode,
        "base64url": base64.urlsafe_b64encode,
    }
    text = scheme.prefix.encode() + coders[scheme.encoding](mac)
    if scheme.pairs is None:
        return raw.with_headers((header, text))
    pairs = scheme.pairs
    time_pair = f"{pairs.timestamp}={stamp}{pairs.separator}" if pairs.timestamp else ""
    return raw.with_headers((header, f"{time_pair}{pairs.signature}=".encode() + text))


def _hmac_values(scheme: Hmac, raw: Raw, site: Site) -> dict[str, bytes]:
    """What the placeholders stand for, and the time even where it is not among them."""
    time = scheme.timestamp
    stamp = b""
    if time is not None and time.header:
        stamp = raw.header(time.header)
    elif time is not None and scheme.pairs is not None:
        pairs = [
            pair.strip(b" ").partition(b"=")
            for pair in raw.header(scheme.header)[len(scheme.prefix) :].split(scheme.pairs.separator.encode())
        ]
        stamp = b"".join(value for name, _, value in pairs if name == scheme.pairs.timestamp.encode())
    return {
        "body": raw.body,
        "timestamp": stamp,
        "id": raw.header(scheme.id_header),
        "method": raw.method.encode(),
        "path": raw.path.encode(),
        "query": raw.query,
        "url": site.url.encode() + (b"?" + raw.query if raw.query else b""),
    }


def _sign_twilio(raw: Raw, site: Site) -> Raw:
    parameters: bytes | None = b""
    if raw.body:
        form = raw.with_headers(("content-type", _FORM))
        parameters = _twilio_parameters(form)
        if parameters is None or raw.body[:1] in b"{[":
            query = (raw.query + b"&" if raw.query else b"") + b"bodySHA256=" + sha256(raw.body).hexdigest().encode()
            raw, parameters = replace(raw, query=query), b""
        else:
            raw = form
    url = site.url.encode() + (b"?" + raw.query if raw.query else b"")
    mac = hmac.digest(TEXT.encode(), url + (parameters or b""), "sha1")
    return raw.with_headers(("x-twilio-signature", base64.b64encode(mac)))


def _twilio_parameters(raw: Raw) -> bytes | None:
    hashed = [value for name, value in parse_qsl(raw.query.decode("latin-1"), True) if name == "bodySHA256"]
    if hashed:
        return sha256(raw.body).digest()
    if not raw.body:
        return b""
    if raw.header("content-type").partition(b";")[0].strip().lower() != _FORM.encode():
        return None
    try:
        pairs = parse_qsl(raw.body.decode("ascii"), True, errors="surrogateescape", max_num_fields=1000)
    except ValueError:
        return None
    return "".join(name + value for name, value in sorted(set(pairs))).encode("utf-8", "surrogateescape")


def _hubspot_url(raw: Raw, site: Site) -> bytes:
    url = site.url.encode() + (b"?" + raw.query if raw.query else b"")
    text = url.decode("latin-1")
    for code, character in _HUBSPOT.items():
        for spelling in {code, code.lower()}:
            text = text.replace(f"%{spelling}", character)
    return text.encode("latin-1")


def _sign_sns(raw: Raw, which: int) -> Raw:
    message = {
        "Type": ("Notification", "SubscriptionConfirmation")[which % 2],
        "MessageId": sha256(raw.body).hexdigest()[:36],
        "TopicArn": TOPIC,
        "Subject": "an order",
        "Message": _text(raw),
        "Timestamp": "2026-03-02T10:00:00.000Z",
        "SignatureVersion": str(1 + which // 2 % 2),
        "SigningCertURL": SNS_CERTIFICATE,
    }
    if which % 2:
        where = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription"
        message |= {"Token": "2336412f37", "SubscribeURL": f"{where}&TopicArn={TOPIC}&Token=2336412f37"}
    lines = "".join(f"{name}\n{value}\n" for name, value in _sns_lines(message)).encode("utf-8", "surrogatepass")
    hashing = SHA256() if message["SignatureVersion"] == "2" else SHA1()
    made = rsa_key("sns").sign(lines, PKCS1v15(), hashing)
    return replace(raw, body=_json(message | {"Signature": base64.b64encode(made).decode()}))


def _sns_lines(message: dict[str, Any]) -> list[tuple[str, str]]:
    names = (
        ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
        if message["Type"] == "Notification"
        else ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    )
    return [(name, message[name]) for name in names if message.get(name) is not None]


def _adyen_item(number: int, raw: Raw) -> dict[str, Any]:
    item = {
        "pspReference": f"79913834619286{number}",
        "originalReference": "",
        "merchantAccountCode": "TestMerchant",
        "merchantReference": _text(raw)[:80],
        "amount": {"value": 1130, "currency": "EUR"},
        "eventCode": "AUTHORISATION",
        "success": "true",
    }
    line = ":".join(_adyen_members({"NotificationRequestItem": item}))
    made = base64.b64encode(hmac.digest(KEY, line.encode(), "sha256")).decode()
    return {"NotificationRequestItem": item | {"additionalData": {"hmacSignature": made}}}


def _adyen_members(wrapped: dict[str, Any]) -> list[str]:
    item = wrapped["NotificationRequestItem"]
    success = item["success"]
    return [
        item["pspReference"],
        item.get("originalReference") or "",
        item["merchantAccountCode"],
        item.get("merchantReference") or "",
        str(item["amount"]["value"]),
        item["amount"]["currency"],
        item["eventCode"],
        success if isinstance(success, str) else str(success).lower(),
    ]


def _as_object(raw: Raw) -> Raw:
    return raw if raw.body[:1] == b"{" else replace(raw, body=_json({"body": _text(raw)}))


def _text(raw: Raw) -> str:
    return raw.body.decode("latin-1")


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _document(raw: Raw) -> Any:
    """JSON, whatever bytes stand in the texts that nothing vouches for."""
    return json.loads(raw.body.decode("utf-8", "replace"))


def _or_none(read: Callable[[], object]) -> object:
    try:
        return read()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
