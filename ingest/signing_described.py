"""Signs for a source that describes its sender itself: the other side of `generic` with a `verify` of its own."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from ingest.drafts import Draft, Headers, Sent, key_of, placed, signature, times
from ingest.signing_senders import basic, standard
from ingest.verify.schemes import ApiKey, Basic, Bearer, Hmac, Scheme, Standard, Unsigned

_JSON = ("Content-Type", "application/json")


def sign_described(scheme: Scheme, draft: Draft) -> Sent:
    """A delivery as a sender would send it who was told the same description.

    Raises:
        ConfigError: a secret that the scheme cannot use.
    """
    match scheme:
        case Hmac():
            sent = _hmac(scheme, draft)
        case Standard():
            sent = standard(draft)
        case Basic():
            sent = basic(draft)
        case Bearer(header=header, prefix=prefix):
            key_of(draft.secret)
            sent = Sent([(header, prefix + draft.secret)], draft.body)
        case ApiKey(header=header, query=""):
            key_of(draft.secret)
            sent = Sent([(header, draft.secret)], draft.body)
        case ApiKey(query=query):
            key_of(draft.secret)
            sent = Sent([], draft.body, f"{quote(query, safe='')}={quote(draft.secret, safe='')}")
        case Unsigned():
            sent = Sent([], draft.body)
    return Sent([_JSON, *sent.headers], sent.body, sent.query)


def _hmac(scheme: Hmac, draft: Draft) -> Sent:
    time, body, headers = scheme.timestamp, draft.body, Headers()
    stamp = times(draft.now)[time.unit] if time is not None else ""
    if time is not None and time.pointer:
        body = placed(body, time.pointer, stamp if time.unit == "iso8601" else int(stamp))
    elif time is not None and time.header:
        headers.append((time.header, stamp))
    if scheme.id_header:
        headers.append((scheme.id_header, draft.delivery_id))
    address = urlsplit(draft.url)
    values = {
        "body": body,
        "timestamp": stamp.encode(),
        "id": draft.delivery_id.encode(),
        "method": draft.method.encode(),
        "url": draft.url.encode(),
        "path": address.path.encode(),
        "query": address.query.encode(),
    }
    parts = re.split(r"\{(\w+)\}", scheme.signed)
    message = b"".join(values[part] if place % 2 else part.encode() for place, part in enumerate(parts))
    mac = signature(key_of(draft.secret, scheme.key), message, scheme.algorithm, scheme.encoding)
    if scheme.pairs is not None:
        mac = f"{scheme.pairs.signature}={mac}"
        if scheme.pairs.timestamp:
            mac = f"{scheme.pairs.timestamp}={stamp}{scheme.pairs.separator}{mac}"
    return Sent([*headers, (scheme.header.replace("{n}", "1"), scheme.prefix + mac)], body)
