"""Strategies: bodies and headers as senders make them, as nobody should, and what an attacker changes in a good one."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from events.headers import encode_headers
from tests.fuzz.raw import Pair, Raw
from tests.fuzz.sources import NAMES as SOURCES
from tests.fuzz.sources import scheme

DEEP = 2 * sys.getrecursionlimit()
ORDER = {"id": "evt_1", "type": "order.paid", "action": "opened", "event": {"type": "x"}, "note": "Mühle ☸", "n": 1.5}
MULTIPART = b'--XX\r\nContent-Disposition: form-data; name="a"; filename="\xc3\xbc"\r\n\r\n1\r\n--XX--\r\n'

GOOD_BODIES: list[bytes] = [
    json.dumps(ORDER).encode(),
    json.dumps(ORDER, ensure_ascii=False).encode(),
    json.dumps([ORDER, ORDER | {"id": "evt_2"}]).encode(),
    json.dumps({"object": "page", "entry": [{"changes": [{"field": "f", "value": {}}, {"value": None}]}]}).encode(),
    b"",
    b"{}",
    b"payload=%7B%22action%22%3A%22opened%22%7D&a=1&a=2",
    MULTIPART,
    b"<?xml version='1.0'?><a>&lt;</a>",
    b"\xef\xbb\xbf{}",
    b"a=10",  # ends, and the next ones begin, as a timestamp could
    b"1772445600.{}",
    b"1772445600000{}",
]
BAD_BODIES: list[bytes] = [
    b"\x00",
    b"\xff\xfe\x00",
    b'{"id":"\\u0000","type":"\\ud800","action":"\xff"}',
    b"[" * DEEP,
    b"[" * DEEP + b"]" * DEEP,
    b'{"entry":' * DEEP + b"1" + b"}" * DEEP,
    b'{"id":' + b"9" * 5000 + b',"type":1e999999,"n":-0.0}',
    b'[{"id":1},' + b"{}," * 20_000 + b"{}]",
    b"{" + b",".join(b'"k%d":0' % number for number in range(5000)) + b"}",
    b"&".join([b"a=%"] * 1001),
    b"--XX\r\n" * 1200,
    gzip.compress(bytes(1 << 22)),
    gzip.compress(gzip.compress(bytes(1 << 22))),
    gzip.compress(b"")[:-1],
    b"x" * 200_000,
]
TYPES = [
    b"application/json",
    b"application/json; charset=utf-16",
    b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=XX",
    b'multipart/form-data; boundary="',
    b"text/xml; charset=iso-8859-1",
    b"application/cloudevents+json",
    b"application/cloudevents-batch+json",
    b"\xff; =; =",
    b"",
]
CODINGS = [b"gzip", b"deflate", b"gzip, deflate", b"zstd", b"br", b"identity", b"gzip" * 40, b"\xff"]
QUERIES = [b"", b"a=1&b=%20x", b"hub.mode=subscribe&hub.verify_token=t&hub.challenge=1", b"crc_token=abc"]
METHODS = ["POST", "GET", "PUT", "OPTIONS", "HEAD", "DELETE", "PATCH", "QUERY"]
HEADERS = sorted(
    {
        name.lower().replace("{n}", "1").encode()
        for one in map(scheme, SOURCES)
        for name in (*one.proof_headers(), *one.credentials()[0])
    }
    | {b"content-type", b"content-encoding", b"content-length", b"traceparent", b"tracestate", b"forwarded", b"host"}
    | {b"x-forwarded-for", b"transfer-encoding", b"webhook-id", b"svix-id", b"webhook-request-origin", b"authorization"}
    | {b"x-okta-verification-challenge", b"x-github-delivery", b"x-github-event", b"expect", b"cookie", b"ce-id"}
)

_NO_LINES = bytes.maketrans(b"\r\n\x00", b"   ")  # no server hands these on within a header
values = st.one_of(
    st.binary(max_size=80).map(lambda value: value.translate(_NO_LINES)),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace").translate(_NO_LINES)),
    st.sampled_from([b"", b"0", b"=", b",", b"t=1,v1=", b"v1,", b"Basic ", b"sha256=", b"1772445600", b"9" * 400]),
    st.sampled_from([*TYPES, *CODINGS]),
    st.integers(1, 20_000).map(lambda length: b"a" * length),
)
names = st.sampled_from(HEADERS) | st.from_regex(rb"[a-z0-9-]{1,30}", fullmatch=True)
header_lists = st.lists(st.tuples(names, values), max_size=12)


# What senders send, and any text or bytes: all of it may be signed, and all of it must be taken.
good_bodies = st.one_of(
    st.sampled_from(GOOD_BODIES),
    st.sampled_from(BAD_BODIES),
    st.binary(max_size=200),
    st.text(max_size=100).map(str.encode),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ORDER, "x", ""]), inner),
        max_leaves=12,
    ).map(lambda document: json.dumps(document).encode()),
)
_queries = st.sampled_from(QUERIES) | st.binary(max_size=60).map(lambda text: text.translate(_NO_LINES))
_types = st.none() | st.sampled_from(TYPES)
_codings = st.none() | st.sampled_from(CODINGS)
_signed_queries = st.sampled_from([b"", b"", b"a=1&b=%20x%2F"])
_methods = st.sampled_from(METHODS)


@st.composite
def signable(draw: st.DrawFn) -> Raw:
    """A request as its sender makes it, before it is signed."""
    return Raw(draw(good_bodies), "POST", "/in/fuzz", draw(_signed_queries))


@st.composite
def unsigned_requests(draw: st.DrawFn) -> Raw:
    """A request by someone who has no secret: anything at all."""
    headers: list[Pair] = draw(header_lists)
    if (content_type := draw(_types)) is not None:
        headers.append((b"content-type", content_type))
    if (coding := draw(_codings)) is not None:
        headers.append((b"content-encoding", coding))
    return Raw(draw(good_bodies), draw(_methods), "/in/fuzz", draw(_queries), tuple(headers))


@st.composite
def altered(draw: st.DrawFn, raw: Raw) -> Raw:
    """One to three changes to a request that somebody else signed."""
    for _ in range(draw(st.integers(1, 3))):
        raw = draw(st.sampled_from(_CHANGES))(draw, raw)
    return raw


def _change_body(draw: st.DrawFn, raw: Raw) -> Raw:
    return replace(raw, body=draw(_bytes_like(raw.body)))


def _change_query(draw: st.DrawFn, raw: Raw) -> Raw:
    return replace(raw, query=draw(_bytes_like(raw.query)).translate(_NO_LINES))


def _change_method(draw: st.DrawFn, raw: Raw) -> Raw:
    return replace(raw, method=draw(_methods))


def _change_path(draw: st.DrawFn, raw: Raw) -> Raw:
    return replace(raw, path=draw(st.sampled_from(["/in/fuzz/", "/in/other", "//in/fuzz", "/in/fuz"])))


def _change_header(draw: st.DrawFn, raw: Raw) -> Raw:
    if not raw.headers:
        return _add_header(draw, raw)
    index = draw(st.integers(0, len(raw.headers) - 1))
    value = raw.headers[index][1]
    changed = draw(_bytes_like(value) | st.just(value.swapcase()) | st.just(value.rstrip(b"="))).translate(_NO_LINES)
    return _with_header(raw, index, changed)


def _drop_header(draw: st.DrawFn, raw: Raw) -> Raw:
    index = draw(st.integers(0, max(0, len(raw.headers) - 1)))
    return replace(raw, headers=(*raw.headers[:index], *raw.headers[index + 1 :]))


def _add_header(draw: st.DrawFn, raw: Raw) -> Raw:
    pair = draw(st.tuples(names, values) | st.sampled_from(raw.headers or [(b"a", b"b")]))
    index = draw(st.integers(0, len(raw.headers)))
    return replace(raw, headers=(*raw.headers[:index], pair, *raw.headers[index:]))


def _rename_header(draw: st.DrawFn, raw: Raw) -> Raw:
    if not raw.headers:
        return raw
    index = draw(st.integers(0, len(raw.headers) - 1))
    renamed = (draw(names), raw.headers[index][1])
    return replace(raw, headers=(*raw.headers[:index], renamed, *raw.headers[index + 1 :]))


def _move_border(draw: st.DrawFn, raw: Raw) -> Raw:
    """Bytes from the end of one signed part to the start of the next, or back: header and body, query and body."""
    count = draw(st.integers(1, 12))
    if draw(st.booleans()) or not raw.headers:
        if draw(st.booleans()):
            return replace(raw, query=(raw.query + raw.body[:count]).translate(_NO_LINES), body=raw.body[count:])
        return replace(raw, query=raw.query[:-count], body=raw.query[-count:] + raw.body)
    index = draw(st.integers(0, len(raw.headers) - 1))
    value, body = raw.headers[index][1], raw.body
    match draw(st.integers(0, 3)):
        case 0:
            value, body = value + body[:count], body[count:]
        case 1:
            value, body = value[:-count], value[-count:] + body
        case 2:
            value, body = body[-count:] + value, body[:-count]
        case _:
            value, body = value[count:], body + value[:count]
    return _with_header(replace(raw, body=body), index, value.translate(_NO_LINES))


def _shift(draw: st.DrawFn, raw: Raw) -> Raw:
    """Of three signed parts with text between them, the first swallows the second, and the third gives one up."""
    if len(raw.headers) < 2:
        return raw
    first, second = draw(st.permutations(range(len(raw.headers))))[:2]
    between = draw(st.sampled_from([b".", b":", b"\n", b""]))
    token, _, body = raw.body.partition(between) if between else (raw.body[:10], b"", raw.body[10:])
    swallowed = raw.headers[first][1] + between + raw.headers[second][1]
    raw = _with_header(replace(raw, body=body), first, swallowed.translate(_NO_LINES))
    return _with_header(raw, second, token.translate(_NO_LINES))


def _with_header(raw: Raw, index: int, value: bytes) -> Raw:
    return replace(raw, headers=(*raw.headers[:index], (raw.headers[index][0], value), *raw.headers[index + 1 :]))


def _shift_members(draw: st.DrawFn, raw: Raw) -> Raw:
    """The same within a JSON document: a part of one text goes over to its neighbour."""
    try:
        document = json.loads(raw.body)
    except (ValueError, RecursionError):
        return raw
    places = list(_texts(document, 100))
    if len(places) < 2:
        return raw
    index = draw(st.integers(0, len(places) - 2))
    (left, one), (right, other) = places[index : index + 2]
    between = draw(st.sampled_from([":", ":", "\n", "."]))
    if draw(st.booleans()):
        moved, _, right[other] = right[other].partition(between)
        left[one] += between + moved
    else:
        left[one], _, moved = left[one].rpartition(between)
        right[other] = moved + between + right[other]
    return replace(raw, body=json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))


def _texts(value: Any, most: int) -> Iterator[tuple[Any, Any]]:
    """Where texts stand: (container, key), in the document's order, so deep and no deeper."""
    if most:
        for key, inner in (
            value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else [])
        ):
            if isinstance(inner, str):
                yield value, key
            yield from _texts(inner, most - 1)


def _repeat_member(draw: st.DrawFn, raw: Raw) -> Raw:
    """A JSON object in which a member comes twice: whoever verifies and whoever reads must see the same one."""
    try:
        document = json.loads(raw.body)
        name = draw(st.sampled_from(sorted(document)))
    except (ValueError, TypeError, RecursionError, IndexError):
        return raw
    if not isinstance(document, dict):
        return raw
    other = draw(st.sampled_from([document[name], "", "other", 7, None, [], {}]))
    member = json.dumps(name).encode() + b":" + json.dumps(other).encode()
    if draw(st.booleans()):
        return replace(raw, body=b"{" + member + b"," + raw.body.lstrip()[1:])
    return replace(raw, body=raw.body.rstrip()[:-1] + b"," + member + b"}")


_CHANGES = [
    _change_body,
    _change_body,
    _change_header,
    _change_header,
    _change_query,
    _change_method,
    _change_path,
    _drop_header,
    _add_header,
    _rename_header,
    _move_border,
    _shift,
    _shift_members,
    _repeat_member,
]


@st.composite
def _bytes_like(draw: st.DrawFn, original: bytes) -> bytes:
    """A byte more, less or other; a piece twice, gone or turned round; or something else altogether."""
    start = draw(st.integers(0, len(original)))
    end = draw(st.integers(start, min(len(original), start + 40)))
    piece = original[start:end]
    with_instead = draw(
        st.sampled_from(
            [b"", b" ", b"\x00", b"\xff", b"0", b"1", b".", b":", b"=", piece * 2, piece[::-1], piece.upper()]
        )
        | st.binary(max_size=4)
    )
    changed = original[:start] + with_instead + original[end:]
    return draw(
        st.sampled_from([changed, changed, changed, original[:start], b"", encode_headers([(original[:9], b"")])])
    )
