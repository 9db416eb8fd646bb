"""A delivery is always identified: the same for the same, another for another, and never an error."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.ids import dedup_key
from ingest.identity import Header, Identify, Identity, Pointer, compile_identity
from ingest.providers import PRESETS
from ingest.verify.mac import Hmac, Timestamp
from tests.unit.ingest.requests import request


def identifier(preset: str) -> Identify:
    found = PRESETS[preset]
    return compile_identity(found.id, found.type, found.scheme.covered())


GITHUB = identifier("github")
BY_BODY = compile_identity((Pointer("/data/0/id"), Pointer("/event")), (Pointer("/a~1b"), Pointer("/data/0/~0")))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"action":"opened","number":1}', "pull_request.opened"),
        (b'{"number":1}', "pull_request"),
        (b'{"action":null}', "pull_request"),
        (b'{"action":{"action":"opened"}}', "pull_request"),
        (b'{"nested":{"action":"opened"}}', "pull_request"),
        (b"payload=%7B%22action%22%3A%22opened%22%7D", "pull_request"),
        (b"", "pull_request"),
    ],
)
def test_githubs_type_is_its_event_and_the_action_where_there_is_one(body: bytes, expected: str) -> None:
    identity = GITHUB(request(body, ("X-GitHub-Event", "pull_request"), ("X-GitHub-Delivery", "72d3162e")))
    assert identity == Identity(dedup_key(b"id", b"72d3162e"), "72d3162e", expected)


@pytest.mark.parametrize("name", ["webhook-id", "svix-id"])
def test_a_standard_webhook_has_its_id_in_either_header_and_its_type_in_the_body(name: str) -> None:
    identity = identifier("standard")(request(b'{"data":{"type":"x"},"type":"user.created"}', (name, "msg_1")))
    assert identity == Identity(dedup_key(b"id", b"msg_1"), "msg_1", "user.created")


def test_stripe_has_both_in_the_body() -> None:
    identity = identifier("stripe")(request(b'{"id":"evt_1","type":"invoice.paid","data":{}}'))
    assert identity == Identity(dedup_key(b"id", b"evt_1"), "evt_1", "invoice.paid")


def test_the_body_is_hashed_where_nothing_is_verified() -> None:
    identify = identifier("none")
    one, again = identify(request(b"a", ("X-Any", "1"))), identify(request(b"a", ("X-Any", "2")))
    assert one == again == Identity(dedup_key(b"hash", b"a"), None, "")
    assert identify(request(b"b")).key != one.key


def test_without_an_id_what_is_signed_tells_deliveries_apart() -> None:
    scheme = Hmac(header="X-S", signed="{timestamp}.{body}", timestamp=Timestamp("X-T"))
    identify = compile_identity((), (), scheme.covered())

    def key(body: bytes, stamp: str, signature: str) -> bytes:
        return identify(request(body, ("X-T", stamp), ("X-S", signature))).key

    assert len({key(b"a", "1", "s"), key(b"b", "1", "s"), key(b"a", "2", "s")}) == 3
    assert key(b"a", "1", "s") == key(b"a", "1", "t"), "another signature of the same is not another delivery"


@pytest.mark.parametrize("headers", [[], [("X-GitHub-Delivery", "")], [("X-GitHub-Delivery", "1")] * 2])
def test_a_missing_empty_or_repeated_id_is_none(headers: list[tuple[str, str]]) -> None:
    identity = GITHUB(request(b"{}", *headers, ("X-Hub-Signature-256", "sha256=ab")))
    assert identity == Identity(dedup_key(b"hash", b"{}"), None, "")


def test_an_id_of_several_parts_needs_all_and_a_type_takes_those_before_a_gap() -> None:
    body = {"data": [{"id": 12345678901234567890123, "~": True}], "event": "paid", "a/b": "order"}
    identity = BY_BODY(request(json.dumps(body).encode()))
    key = dedup_key(b"id", b"12345678901234567890123", b"paid")
    assert identity == Identity(key, "12345678901234567890123:paid", "order.true")
    for gap in ("data", "event"):
        less = {name: value for name, value in body.items() if name != gap}
        assert BY_BODY(request(json.dumps(less).encode())).delivery_id is None
    assert BY_BODY(request(b'{"data":[],"event":"paid","a/b":"order"}')).event_type == "order"
    assert BY_BODY(request(b'{"data":[{"~":1}]}')).event_type == ""


def test_an_index_finds_the_item_of_an_array_or_the_member_of_that_name() -> None:
    identify = compile_identity((Pointer("/0/id"),), ())
    assert identify(request(b' [{"id":"a"},{"id":"b"}]')).delivery_id == "a"
    assert identify(request(b'{"0":{"id":"c"}}')).delivery_id == "c"
    assert identify(request(b"[]")).delivery_id is None


DEEP = 2 * sys.getrecursionlimit()
HOSTILE = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b'{"action":',
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b'{"action":"\xff"}',
    b'{"action":"\xed\xa0\x80"}',
    b'{"action":"\\ud800"}',
    b'{"action":"\\ud800\\u0041"}',
    b'{"action":"\\udc00 lone"}',
    b'{"action":"a"}}',
    b'{"action":nan}',
    b"[" * 100_000,
    b'{"x":' * DEEP + b"1" + b"}" * DEEP,
    b'{"x":' + b"[" * DEEP + b"]" * DEEP + b',"action":"opened"}',
    b'{"action":' + b"[" * DEEP + b"]" * DEEP + b"}",
]


@pytest.mark.parametrize("body", HOSTILE)
def test_a_hostile_body_has_the_event_but_no_action(body: bytes) -> None:
    identity = GITHUB(request(body, ("X-GitHub-Event", "push")))
    assert identity.delivery_id is None
    assert identity.key == dedup_key(b"hash", body)
    assert identity.event_type in ("push", "push.�")
    assert BY_BODY(request(body)).delivery_id is None


def test_a_fault_beside_a_pointer_does_not_hide_what_it_finds() -> None:
    identify = compile_identity((Pointer("/id"),), (Pointer("/type/name"),))
    identity = identify(request(b'{"type":"\xff","id":"7"}'))
    assert (identity.delivery_id, identity.event_type) == ("7", "")


def test_a_nul_never_reaches_the_database() -> None:
    identity = GITHUB(request(b'{"action":"a\\u0000b\\n"}', ("X-GitHub-Event", "p"), ("X-GitHub-Delivery", "x\x00y")))
    assert identity.event_type == "p.a�b�"
    assert identity.delivery_id == "x�y"
    assert identity.key == dedup_key(b"id", b"x\x00y"), "the key is made from what came, not from what is shown"


def test_what_is_too_long_is_cut_and_stays_distinct() -> None:
    def identity(last: str) -> Identity:
        body = json.dumps({"action": "t" * 300 + last}).encode()
        return GITHUB(request(body, ("X-GitHub-Event", "e"), ("X-GitHub-Delivery", "i" * 300 + last)))

    one, two = identity("1"), identity("2")
    assert one.delivery_id is not None
    assert (len(one.delivery_id), len(one.event_type)) == (255, 200)
    assert one.delivery_id.startswith("iiii")
    assert one.event_type.startswith("e.tttt")
    assert one.delivery_id != two.delivery_id
    assert one.event_type != two.event_type
    assert one.key != two.key


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["data", "event", "a/b", "id", "~", "x"]), inner),
)
BODIES = st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | st.text().map(lambda text: text.encode())


@given(body=BODIES, name=st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace").decode()))
@example(body=b'{"data":[{"id":1}],"event":"\\ud83d\\ude00"}', name="\x00")
def test_identify_never_raises_and_keeps_its_bounds(body: bytes, name: str) -> None:
    incoming = request(body, ("X-GitHub-Event", name), ("X-GitHub-Delivery", name))
    for identify in (GITHUB, BY_BODY, compile_identity((Header("X-GitHub-Event"),), (Pointer("/x/id"),))):
        identity = identify(incoming)
        assert identity == identify(incoming)
        assert len(identity.key) == 16
        assert identity.event_type.isprintable()
        assert len(identity.event_type) <= 200
        if identity.delivery_id is not None:
            assert 0 < len(identity.delivery_id) <= 255
            assert identity.delivery_id.isprintable()


@given(document=JSON)
def test_a_pointer_finds_what_a_whole_parse_finds(document: object) -> None:
    body = json.dumps(document, allow_nan=False) if _finite(document) else "{}"
    found = BY_BODY(request(body.encode())).delivery_id
    whole = json.loads(body)
    try:
        ids = [whole["data"][0]["id"], whole["event"]]
    except (KeyError, IndexError, TypeError):
        ids = [None]
    texts = [value if isinstance(value, str) else json.dumps(value) for value in ids]
    absent = any(value is None or value == "" or isinstance(value, dict | list) for value in ids)
    if absent:
        assert found is None
    elif all(text.isprintable() for text in texts) and len(":".join(texts)) <= 255:
        assert found == ":".join(texts)


def _finite(document: object) -> bool:
    try:
        json.dumps(document, allow_nan=False)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("pointer", ["", "id", "/a~2", "/a~"])
def test_what_is_no_pointer_is_said_when_compiled(pointer: str) -> None:
    with pytest.raises(ValueError, match="expected a JSON Pointer"):
        compile_identity((Pointer(pointer),), ())
