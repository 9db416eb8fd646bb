"""What takes bytes apart, each as one function from bytes to nothing that must not raise: the targets of atheris.

Where there is another way to the same result, the two are compared. The seeds are the corpus to begin with.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
import zstandard

from events.content import decoded, parse
from events.content_forms import MOST_FIELDS, pairs, unquoted
from events.errors import ConfigError
from executor.workflow.graph import load_yaml, parse_workflow
from ingest.fields import compile_form, compile_query, other_key
from ingest.parsing import parse_source
from ingest.pointers import compile_pointers
from ingest.receipt import traceparent_of
from ingest.splitting import MOST_ITEMS, elements, meta, most_bytes, narrowed, pointed
from tests.fuzz import making
from tests.fuzz.properties import check_stranger, judge, target
from tests.fuzz.raw import Raw
from tests.fuzz.sources import NAMES

Target = Callable[[bytes], None]

_LOOK = compile_pointers(["/id", "/data/0/id", "/a~1b/~0", "/1", "/0/0"])
_SPLITS = [elements(), elements(having=("id",)), pointed("/a/b"), narrowed("/a/*"), narrowed("/a/b/*"), meta()]
_GREETERS = [target(name) for name in ("meta", "x", "slack", "zoom", "discord", "sns")]
_JSON = [
    *making.GOOD_BODIES,
    *making.BAD_BODIES[:4],
    b'{"a":{"b":[{"id":1},{"id":2}]},"a/b":{"~":"x"}}',
    b'[[1,"x"],2]',
]


def pointers(data: bytes) -> None:
    """A pointer finds what a whole parse finds, and never raises."""
    found = _LOOK(data)
    assert len(found) == 5
    try:
        whole = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    expected = whole.get("id") if isinstance(whole, dict) else None
    if isinstance(expected, str):
        assert found[0] == (expected or None)
    elif expected is None or isinstance(expected, dict | list):
        assert found[0] is None


def keys(data: bytes) -> None:
    """The other key is the other key, where a whole parse finds any."""
    name = other_key(data, frozenset(("update_id",)))
    try:
        whole = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return  # bytes that are no text may stand in a value that nobody looks at
    others = sorted(whole.keys() - {"update_id"})
    assert name == (others[0] or None if len(others) == 1 else None)


def batches(data: bytes) -> None:
    """Items are JSON, few and not much longer than the whole."""
    for split in _SPLITS:
        items = split(data)
        if items is None:
            continue
        assert 0 < len(items) <= MOST_ITEMS
        assert sum(map(len, items)) <= most_bytes(data)
        try:
            msgspec.json.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue  # a part of what is no JSON may be taken for a batch
        for item in items[:50]:
            assert isinstance(msgspec.json.decode(item), dict)


def signatures(data: bytes) -> None:
    """No header of anybody's making passes. The first byte says which source; each line is a header, then the body."""
    if not data:
        return
    head, _, body = data[1:].partition(b"\n\n")
    headers = [line.partition(b":")[::2] for line in head.split(b"\n")[:20]]
    raw = Raw(body, headers=tuple((name.lower(), value.translate(None, b"\r\0")) for name, value in headers))
    check_stranger(target(NAMES[data[0] % len(NAMES)]), raw)


def contents(data: bytes) -> None:
    """The first line is the content type."""
    kind, _, body = data.partition(b"\n")
    content = parse(body, kind.decode("latin-1"))
    msgspec.json.encode(content)
    assert len(content.form) + len(content.files) <= MOST_FIELDS


def codings(data: bytes) -> None:
    """The first line is the content encoding. The output never exceeds its limit."""
    coding, _, body = data.partition(b"\n")
    found = decoded(body, coding.decode("latin-1"), 1 << 16)
    assert found is None or len(found) <= 1 << 16


def forms(data: bytes) -> None:
    """Names, values and their quoting, compared with the standard library's."""
    assert unquoted(data) == unquote_to_bytes(data.replace(b"+", b" "))
    found = pairs(data)
    assert found is None or len(found) <= MOST_FIELDS
    assert len(compile_query(["a", "b"])(data)) == 2
    for kind in making.TYPES:
        assert len(compile_form(["a", "b"])(data, kind)) == 2


def traceparents(data: bytes) -> None:
    """What is believed has the one form that there is."""
    found = traceparent_of({b"traceparent": data})
    if found is not None:
        assert found.encode() == data
        assert len(found) == 55


def greetings(data: bytes) -> None:
    """A query, an empty line, a body: whatever it is, it is greeted back or not."""
    query, _, body = data.partition(b"\n\n")
    for door in _GREETERS:
        for method in ("GET", "POST", "OPTIONS"):
            headers = ((b"webhook-request-origin", body[:300]), (b"x-okta-verification-challenge", body[:300]))
            judge(door, Raw(body, method, query=query, headers=headers))


def definitions(data: bytes) -> None:
    """A text is a definition, or a ConfigError says what is wrong with it."""
    try:
        documents = load_yaml(data.decode("utf-8", "replace"))
    except ConfigError:
        return
    for document in documents:
        read: Callable[[dict[str, Any]], object] = parse_workflow if "workflow" in document else parse_source
        try:
            made = read(document)
        except ConfigError as error:
            faults = error.faults
        else:
            faults = ["none"]
            msgspec.json.encode(msgspec.to_builtins(made))
        assert faults
        assert all(isinstance(fault, str) for fault in faults)


SOURCES = [
    """source: shop
preset: generic
secrets: [{env: NEW}, {env: OLD, until: 2026-12-31T00:00:00Z}, {env: V, for: handshake}, {file: /x}, {value: v}, plain]
verify: {scheme: hmac, header: X-S, prefix: "v=", algorithm: sha512, encoding: base64, key: hex,
  signed: "{id}.{timestamp}.{url}.{body}", timestamp: {header: X-T, unit: ms, tolerance: 1m30s}}
id: {header: X-Id}
type: [{first: [{header: X}, {pointer: /a}]}, {query: q}, {form: f}]
url: https://hooks.example.com/in/shop
options: {a: b}
addresses: [192.0.2.0/24, "2001:db8::/32"]
methods: [POST, PUT]
split: {pointer: /events}
response: {status: 200, headers: {x-a: b}, body: ok}
rate: {limit: 100, per: 1s, burst: 200}
""",
    "source: a\npreset: paypal\noptions: {webhook_id: x}\n---\nsource: b\npreset: none\nid: hash\n",
    "source: a\npreset: generic\nsecrets: [u:p]\nverify: {scheme: basic}\ntype: {first: [1]}\n",
    "source: a\npreset: generic\nsecrets: [x]\nverify: {scheme: hmac, header: 'X-{n}', pairs: {separator: ';'}}\n",
    """workflow: w
on: [{source: a, type: "order.*", if: event.body.total > 1}]
timeout: 1h
nodes:
  a: {uses: transform, with: {value: "${{ event.form.a[0] }}"}, if: "true", retry: {max_attempts: 2, first: 1s}}
  b: {uses: transform, needs: [a], with: {value: "${{ nodes.a.output }}"}}
""",
]

_GREETINGS = [
    b"",
    b'{"type":"url_verification","challenge":"c"}',
    b'{"event":"endpoint.url_validation","payload":{"plainToken":"t"}}',
    b'{"type":1}',
]
_TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "pointers": (pointers, _JSON),
    "keys": (keys, [*_JSON, b'{"update_id":1,"message":{}}']),
    "batches": (batches, [*_JSON, b'{"a":[{"id":1},{"id":2}]}', b'{"entry":[{"messaging":[{},{}]}]}']),
    "signatures": (
        signatures,
        [
            bytes([number]) + b"\n".join(name + b":" + value for name in making.HEADERS[:20]) + b"\n\n{}"
            for number in range(len(NAMES))
            for value in (b"t=1,v1=00", b"v1,AAAA")
        ],
    ),
    "contents": (contents, [kind + b"\n" + body for kind in making.TYPES[:6] for body in making.GOOD_BODIES]),
    "codings": (
        codings,
        [
            b"gzip\n" + gzip.compress(b"x" * 100, mtime=0),
            b"gzip\n" + gzip.compress(bytes(1 << 17), mtime=0),
            b"deflate\n" + zlib.compress(b"x" * 100),
            b"deflate\n" + zlib.compress(b"x" * 100)[2:-4],
            b"zstd\n" + zstandard.compress(b"x" * 100),
            b"deflate, gzip\n" + gzip.compress(zlib.compress(b"x" * 100), mtime=0),
        ],
    ),
    "forms": (forms, [b"a=1&b=%C3%BC+x&a=2", making.MULTIPART, b"%%4%41%zz+"]),
    "traceparents": (traceparents, [_TRACEPARENT, _TRACEPARENT.upper(), b"ff" + _TRACEPARENT[2:]]),
    "greetings": (greetings, [query + b"\n\n" + body for query in making.QUERIES for body in _GREETINGS]),
    "definitions": (definitions, [text.encode() for text in SOURCES]),
}
"""By name: the function, and what it begins with."""
