"""`event` in expressions is what the sender sent: parsed when somebody asks, decoded, with all values of a form."""

from __future__ import annotations

import gzip
from typing import Any
from uuid import UUID

import pytest

from events.content import Content, parse
from events.headers import encode_headers
from events.types import Event
from executor.engine.scope import NAMES, DeliveryScope
from executor.workflow.expressions import Expression
from executor.workflow.parsing import FIELDS

FORM = "application/x-www-form-urlencoded"


def scope(body: bytes | None, headers: bytes = b"", **facts: Any) -> DeliveryScope:
    return DeliveryScope(
        Event(
            stream_id=UUID(int=1),
            version=0,
            type="delivery.received",
            recorded_at=1.5,
            metadata={"source": "shop", "method": "POST", **facts},
            headers=headers,
            body=body,
        )
    )


def evaluated(expression: str, event: DeliveryScope) -> Any:
    return Expression(expression).evaluate({"event": event})


def test_it_holds_the_names_that_expressions_are_checked_against() -> None:
    event = scope(b"{}")
    assert set(event) == set(NAMES) == set(FIELDS["event"])
    assert len(dict(event)) == len(event) == len(NAMES)
    with pytest.raises(KeyError):
        event["nope"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("event.body.tag", "a"),
        ("event.form.tag", ["a", "ü b"]),
        ("event.form.tag[1] + event.method", "ü bPOST"),
        ("size(event.form.tag)", 2),
        ("has(event.form.none)", False),
        ("event.form.tag.exists(tag, tag == 'a')", True),
        ("event.files", []),
    ],
)
def test_expressions_see_all_values_of_a_form(expression: str, value: Any) -> None:
    assert evaluated(expression, scope(b"tag=a&tag=%C3%BC+b", content_type=FORM)) == value


def test_expressions_see_the_files_of_a_form() -> None:
    part = b'--X\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\nhello\r\n--X--\r\n'
    event = scope(part, content_type="multipart/form-data; boundary=X")
    file = {"name": "f", "filename": "a.txt", "content_type": "", "size": 5, "text": "hello"}
    assert evaluated("event.files", event) == [file]
    assert evaluated("event.files.filter(f, f.size > 3).map(f, f.text)", event) == ["hello"]
    assert evaluated("event.form", event) == evaluated("event.body", event) == {}


def test_a_body_is_decoded_by_the_receipts_fact_and_not_by_the_header() -> None:
    coded = gzip.compress(b'{"a":1}')
    said = encode_headers([(b"content-encoding", b"gzip")])
    assert scope(coded, said, encoding="gzip")["body"] == {"a": 1}
    assert scope(b'{"a":1}', said)["body"] == {"a": 1}
    assert scope(coded, said)["body"] == coded.decode("utf-8", "replace")
    assert scope(b'{"a":1}', said, encoding="gzip")["body"] == {"a": 1}, "what cannot be decoded is taken as it came"


def test_what_is_no_form_has_none_and_nothing_is_empty_text() -> None:
    assert (scope(b"[1]")["body"], scope(b"[1]")["form"], scope(b"[1]")["files"]) == ([1], {}, [])
    assert scope(None)["body"] == ""
    assert scope(b"x", b"a: 1\r\nA-b: 2")["headers"] == {"a": "1", "A-b": "2"}


def test_a_body_is_parsed_once_and_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []

    def counted(body: bytes, content_type: str) -> Content:
        calls.append(body)
        return parse(body, content_type)

    monkeypatch.setattr("executor.engine.scope.parse", counted)
    event = scope(b"{}")
    assert (event["type"], calls) == ("", [])
    assert event["body"] is event["body"]
    assert (event["form"], event["files"], len(calls)) == ({}, [], 1)
