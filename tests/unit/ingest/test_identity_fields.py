"""Ids and types from queries, forms, keys and alternatives; and what tells requests without a body apart."""

from __future__ import annotations

import json
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.ids import dedup_key
from ingest.fields import FORM_LIMIT, KEYS_LIMIT, LONGEST_VALUE, MOST_FIELDS
from ingest.identity import (
    First,
    Form,
    FormPointer,
    Header,
    Identity,
    Locator,
    OtherKey,
    Part,
    Pointer,
    Query,
    compile_identity,
)
from ingest.providers import PRESETS
from ingest.verify.public_key import PublicKey
from tests.unit.ingest.requests import request

FORM = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
MULTIPART = ("Content-Type", "multipart/form-data; boundary=X")


def found(part: Part, body: bytes = b"", *headers: tuple[str, str], query: bytes = b"") -> str | None:
    """What a part finds."""
    incoming = request(body, *headers, query=query)
    identity = compile_identity((part,), (part,))(incoming)
    assert identity.event_type == (identity.delivery_id or "")
    return identity.delivery_id


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"id=7", "7"),
        (b"a=b&id=x%20y+z&c", "x y z"),
        (b"i%64=%C3%BC", "ü"),
        ("id=ü".encode(), "ü"),
        (b"id=%FF", r"\xff"),
        (b"", None),
        (b"id", None),
        (b"id=", None),
        (b"ID=7", None),
        (b"id=7&id=7", None),
        (b"id=7&i%64=8", None),
        (b"id=7" + b"&a" * (MOST_FIELDS - 1), "7"),
        (b"id=7" + b"&a" * MOST_FIELDS, None),
        (b"id=" + b"7" * (LONGEST_VALUE + 1), None),
    ],
)
def test_a_name_in_the_query_counts_if_it_comes_once(query: bytes, expected: str | None) -> None:
    assert found(Query("id"), query=query) == expected
    assert found(Form("id"), query, FORM) == expected
    assert found(Form("id"), query) is None, "without a form's type it is not a form"
    assert found(Form("id"), query, FORM, FORM) is None, "a repeated type is not believed"


def test_a_field_of_a_multipart_form_counts_if_it_comes_once() -> None:
    one = b'--X\r\nContent-Disposition: form-data; name="id"\r\n\r\n7\xff\r\n'
    file = b'--X\r\nContent-Disposition: form-data; name="id"; filename="a"\r\n\r\n8\r\n'
    assert found(Form("id"), one + file + b"--X--", MULTIPART) == r"7\xff"
    assert found(Form("id"), one + one + b"--X--", MULTIPART) is None
    assert found(Form("id"), file + b"--X--", MULTIPART) is None
    assert found(Form("id"), one, MULTIPART) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"update_id":7,"message":{"text":"[{"}}', "message"),
        (b'{"message":{},"update_id":7,"message":{}}', "message"),
        (b'{"update_id":7}', None),
        (b'{"update_id":7,"a":1,"b":2}', None),
        (b'{"":1}', None),
        (b"[]", None),
        (b"", None),
        (b'{"a":1', None),
        (b'{"a":"' + b"x" * KEYS_LIMIT + b'"}', None),
        (b'{"a":' + b"[" * 100_000, None),
    ],
)
def test_the_other_key_is_the_only_one(body: bytes, expected: str | None) -> None:
    assert found(OtherKey(("update_id", "never")), body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"payload=%7B%22action%22%3A%22opened%22%7D", "opened"),
        (b'a=1&payload={"n":%5B1],"action":+"re+%25opened"}&b', "re %opened"),
        (b"payload=%7B%22action%22%3Anull%7D", None),
        (b"payload={}&payload={%22action%22:1}", None),
        (b"payload=action", None),
        (b"payload", None),
        (b"Payload={%22action%22:1}", None),
        (b"", None),
        (b"payload={%22action%22:1,%22x%22:%22" + b"x" * FORM_LIMIT + b"%22}", None),
    ],
)
def test_json_in_a_form_is_looked_into(body: bytes, expected: str | None) -> None:
    part = FormPointer("payload", "/action")
    assert found(part, body, FORM) == expected
    assert found(part, body, ("Content-Type", "application/json")) is None


def test_githubs_forms_have_the_type_of_its_json() -> None:
    preset = PRESETS["github"]
    identify = compile_identity(preset.id, preset.type, preset.scheme.covered())
    headers = (("X-GitHub-Event", "issues"), ("X-GitHub-Delivery", "1"))
    assert identify(request(b"payload=%7B%22action%22%3A%22opened%22%7D", FORM, *headers)).event_type == "issues.opened"
    assert identify(request(b"payload=%7B%7D", FORM, *headers)).event_type == "issues"


def test_the_first_part_that_is_present_counts() -> None:
    part = First((Header("X-Id"), First((Query("id"), Form("id"))), Pointer("/id"), OtherKey(())))
    form = b"id=form"
    assert found(part, form, FORM, ("X-Id", "header"), query=b"id=query") == "header"
    assert found(part, form, FORM, ("X-Id", ""), query=b"id=query") == "query"
    assert found(part, form, FORM, query=b"id=") == "form"
    assert found(part, b'{"id":"pointer"}') == "pointer"
    assert found(part, b'{"key":0}') == "key"
    assert found(part, b"") is None
    assert found(First(())) is None


def test_parts_of_all_kinds_belong_together_and_each_is_read_once() -> None:
    parts: Locator = (Form("b"), Header("X"), Query("q"), Form("a"), Query("r"), Form("b"))
    incoming = request(b"a=1&b=2", FORM, ("X", "3"), query=b"r=5&q=4")
    identity = compile_identity(parts, (Query("q"), Form("a"), Form("none"), Form("b")))(incoming)
    assert identity == Identity(dedup_key(b"id", b"2", b"3", b"4", b"1", b"5", b"2"), "2:3:4:1:5:2", "4.1")


def test_bytes_that_are_no_text_are_still_different_ids() -> None:
    identify = compile_identity((Query("id"),), ())
    assert identify(request(b"", query=b"id=%FF")).key != identify(request(b"", query=b"id=%FE")).key
    forms = compile_identity((Form("id"),), ())
    assert forms(request(b"id=%FF", FORM)).key != forms(request(b"id=%FE", FORM)).key


def test_locators_are_stored_as_json() -> None:
    locator: Locator = (
        Query("a"),
        Form("b"),
        OtherKey(("c",)),
        FormPointer("f", "/g"),
        First((Header("d"), First((Pointer("/e"),)))),
    )
    stored = msgspec.json.encode(locator)
    assert msgspec.json.decode(stored, type=Locator) == locator
    assert msgspec.json.decode(b'[{"in":"header","name":"x"}]', type=Locator) == (Header("x"),)


STAMPED = PublicKey("p256", "X-S", "X-T").covered()


def test_without_a_body_method_and_query_tell_requests_apart() -> None:
    identify = compile_identity((Header("X-Id"),), (), STAMPED)
    keys = {
        identify(request(body, *headers, method=method, query=query)).key
        for body in (b"", b"a")
        for method in ("GET", "POST", "é")
        for query in (b"", b"a=1", b"a=2")
        for headers in ([], [("X-T", "1")])
    }
    assert len(keys) == 3 * 3 * 2 + 2


def test_method_and_query_count_only_without_a_body() -> None:
    identify = compile_identity((), (), STAMPED)
    headers = ("X-T", "1")
    for method in ("POST", "PUT"):
        assert identify(request(b"a", headers, query=b"q=1", method=method)).key == dedup_key(b"hash", b"a", b"1")
    assert identify(request(b"", headers)).key == dedup_key(b"hash", b"", b"1")


@pytest.mark.parametrize("index", [0, 7, 999])
def test_the_first_thousand_items_of_an_array_can_be_pointed_at(index: int) -> None:
    body = json.dumps([{"id": f"i{number}"} for number in range(3000)]).encode()
    assert found(Pointer(f"/{index}/id"), body) == f"i{index}"
    assert found(Pointer(f"/{index}/id"), b"[" + b"0," * index + b"0]") is None
    assert found(Pointer("/1000/id"), body) is None
    assert found(Pointer("/1000"), b'{"1000":"name"}') == "name"


PARTS: list[Part] = [
    Query("id"),
    Form("id"),
    FormPointer("id", "/0"),
    OtherKey(("a",)),
    First((Query("x"), Form("x"), OtherKey(()))),
]


@given(
    body=st.binary() | st.dictionaries(st.text(), st.text()).map(lambda value: json.dumps(value).encode()),
    query=st.binary() | st.text().map(lambda text: b"id=" + quote(text).encode()),
    kind=st.sampled_from([FORM[1], MULTIPART[1], "", "multipart/form-data"]) | st.text(max_size=20),
)
def test_identify_never_raises_and_keeps_its_bounds(body: bytes, query: bytes, kind: str) -> None:
    for part in PARTS:
        identity = compile_identity((part,), (part,))(request(body, ("Content-Type", kind), query=query))
        assert len(identity.key) == 16
        assert identity.event_type.isprintable()
        assert len(identity.event_type) <= 200
        assert identity.delivery_id is None or (0 < len(identity.delivery_id) <= 255)
