"""Where each provider's documentation says that a delivery's id and type stand, there they are found."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ingest.compiled import CompiledSource, compile_source
from ingest.definition import SourceDefinition
from tests.unit.ingest.requests import request

DELIVERIES: list[tuple[str, dict[str, str], Any, str, str]] = [
    ("gitlab", {"Idempotency-Key": "f5e5", "X-Gitlab-Event": "Push Hook"}, {"object_kind": "push"}, "f5e5", "push"),
    (
        "gitlab",
        {"webhook-id": "signed", "Idempotency-Key": "not"},
        {"object_kind": "merge_request", "object_attributes": {"action": "open"}},
        "signed",
        "merge_request.open",
    ),
    ("gitlab", {"Idempotency-Key": "1"}, {"event_name": "project_create"}, "1", "project_create"),
    ("gitlab", {"Idempotency-Key": "1", "X-Gitlab-Event": "System Hook"}, {}, "1", "System Hook"),
    ("bitbucket", {"X-Request-UUID": "u-1", "X-Event-Key": "repo:push"}, {}, "u-1", "repo:push"),
    ("bitbucket", {"X-Request-Id": "r-1", "X-Event-Key": "pr:opened"}, {}, "r-1", "pr:opened"),
    ("linear", {"Linear-Delivery": "2344"}, {"type": "Issue", "action": "create"}, "2344", "Issue.create"),
    (
        "sentry",
        {"Request-ID": "4f0b", "Sentry-Hook-Resource": "issue"},
        {"action": "resolved"},
        "4f0b",
        "issue.resolved",
    ),
    ("square", {}, {"event_id": "6a8f", "type": "payment.created"}, "6a8f", "payment.created"),
    ("paddle", {}, {"event_id": "evt_01", "event_type": "transaction.paid"}, "evt_01", "transaction.paid"),
    ("shopify", {"X-Shopify-Webhook-Id": "b54", "X-Shopify-Topic": "orders/paid"}, {}, "b54", "orders/paid"),
    ("intercom", {}, {"id": "notif_78", "topic": "contact.created"}, "notif_78", "contact.created"),
    (
        "zendesk",
        {"X-Zendesk-Webhook-Invocation-Id": "8350205582"},
        {"type": "zen:event-type:user.created"},
        "8350205582",
        "zen:event-type:user.created",
    ),
    ("typeform", {}, {"event_id": "01H", "event_type": "form_response"}, "01H", "form_response"),
    (
        "docusign",
        {},
        {"event": "envelope-sent", "generatedDateTime": "2026-03-02T10:00:00.7Z", "data": {"envelopeId": "7ab"}},
        "7ab:envelope-sent:2026-03-02T10:00:00.7Z",
        "envelope-sent",
    ),
    ("pagerduty", {}, {"event": {"id": "5ac6", "event_type": "incident.triggered"}}, "5ac6", "incident.triggered"),
    (
        "okta",
        {},
        {"eventId": "b5a1", "data": {"events": [{"uuid": "dc33", "eventType": "user.lifecycle.create"}]}},
        "b5a1:dc33",
        "user.lifecycle.create",
    ),
    ("cloudevents", {"ce-source": "/s", "ce-id": "1", "ce-type": "t"}, {"id": "2", "type": "u"}, "/s:1", "t"),
    ("cloudevents", {}, {"specversion": "1.0", "source": "/s", "id": "1", "type": "t"}, "/s:1", "t"),
]


def source(preset: str) -> CompiledSource:
    return compile_source(SourceDefinition(source="a", preset=preset), [b"k"])


@pytest.mark.parametrize(("preset", "headers", "document", "id", "type"), DELIVERIES)
def test_a_delivery_has_its_id_and_its_type(
    preset: str, headers: dict[str, str], document: Any, id: str, type: str
) -> None:
    identity = source(preset).identify(request(msgspec.json.encode(document), *headers.items()))
    assert (identity.delivery_id, identity.event_type) == (id, type)


def test_a_retry_of_docusign_is_known_again_though_it_counts_itself() -> None:
    one, again = (
        source("docusign").identify(
            request(b'{"event":"e","generatedDateTime":"t","retryCount":%d,"data":{"envelopeId":"1"}}' % count)
        )
        for count in (0, 1)
    )
    assert one.key == again.key


def test_the_events_of_okta_and_of_a_cloudevents_batch_have_names_of_their_own() -> None:
    events = [{"uuid": f"u{n}", "eventType": f"t{n}"} for n in range(2)]
    okta = msgspec.json.encode({"eventId": "b5a1", "data": {"events": events}})
    batch = [{"specversion": "1.0", "source": "/s", "id": str(n), "type": f"t{n}"} for n in range(2)]
    for preset, body, expected in (
        ("okta", okta, [("b5a1:u0", "t0"), ("b5a1:u1", "t1")]),
        ("cloudevents", msgspec.json.encode(batch), [("/s:0", "t0"), ("/s:1", "t1")]),
    ):
        compiled = source(preset)
        assert compiled.split is not None
        found = [compiled.identify(request(item)) for item in compiled.split(body) or []]
        assert [(one.delivery_id, one.event_type) for one in found] == expected


def test_data_of_a_cloudevent_that_happens_to_be_an_array_is_no_batch() -> None:
    split = source("cloudevents").split
    assert split is not None
    assert split(b'[{"id":1},{"id":2}]') is None


@pytest.mark.parametrize(
    ("declared", "is_batch"),
    [
        ("application/cloudevents-batch+json", True),
        ("Application/CloudEvents-Batch+JSON; charset=UTF-8", True),
        ("application/json", False),
        ("application/cloudevents+json", False),
        ("application/cloudevents-batch+json-seq", False),
        (None, False),
    ],
)
def test_a_cloudevent_whose_data_are_cloudevents_is_one_event(declared: str | None, is_batch: bool) -> None:
    events = [{"specversion": "1.0", "source": "/s", "id": str(n), "type": "t"} for n in range(2)]
    headers = [("ce-specversion", "1.0"), ("ce-source", "/outer"), ("ce-id", "1"), ("ce-type", "u")]
    incoming = request(msgspec.json.encode(events), *headers, *([("content-type", declared)] if declared else []))
    items = source("cloudevents").events(incoming)
    assert items == ([msgspec.json.encode(event) for event in events] if is_batch else None)


def test_a_split_of_the_sources_own_asks_for_no_content_type() -> None:
    own = compile_source(SourceDefinition(source="a", preset="cloudevents", split=""), [b"k"])
    assert own.events(request(b'[{"n":1},{"n":2}]', ("content-type", "application/json"))) == [b'{"n":1}', b'{"n":2}']
    assert source("github").events(request(b"[{}]")) is None
    assert source("sendgrid").events(request(b"[{}]")) == [b"{}"]
