"""What the vendors' SDKs answer a challenge, we answer; what they say an event is called, we call it."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from ingest.handshakes import Keys
from ingest.identity import compile_identity
from ingest.providers import PRESETS
from ingest.verify.base import Incoming, Site, headers_of
from tests.vendors.by_node import zoom_signs
from tests.vendors.nodes import Judge
from tests.vendors.vendor import SECRET

KEYS = Keys(signing=[SECRET.encode()], handshake=[], site=Site())
NOW = 1_772_445_600.0


def incoming(body: bytes, headers: dict[str, str], query: str = "", method: str = "POST") -> Incoming:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Incoming(method, "/in/shop", query.encode(), headers_of(raw), body)


def answer(preset: str, asked: Incoming) -> object:
    handshake = PRESETS[preset].handshake
    assert handshake is not None
    given = handshake.answer(asked, KEYS)
    assert given is not None
    assert given.status == 200
    return json.loads(given.body)


@pytest.mark.parametrize("token", ["qgg8vlvZRS6UYooatFL8Aw", "0"])
def test_zoom_s_validation_is_answered_as_by_its_sdk(node: Judge, token: str) -> None:
    body = json.dumps({"payload": {"plainToken": token}, "event": "endpoint.url_validation"}, separators=(",", ":"))
    delivery = zoom_signs(body.encode(), NOW, SECRET)
    encoded = b64encode(delivery.body).decode()
    expected = node.answer("zoom", SECRET, headers=delivery.seen(), body=encoded, now=NOW)
    assert answer("zoom", incoming(delivery.body, dict(delivery.headers))) == expected


@pytest.mark.parametrize("token", ["9b4507b3-9040-4669-9ca3-6b94edb50553", "MjY0NDY3Mzg=", "0"])
def test_x_s_challenge_is_answered_as_by_its_sdk(node: Judge, token: str) -> None:
    expected = node.answer("x", SECRET, token=token, now=NOW)
    assert answer("x", incoming(b"", {}, f"crc_token={token}&nonce=1", "GET")) == expected


def called(message: HTTPMessage, body: bytes | None = None) -> tuple[str | None, bytes]:
    """The type and the dedup key of what CloudEvents' SDK would send."""
    preset = PRESETS["cloudevents"]
    identity = compile_identity(preset.id, preset.type)(incoming(body or message.body, message.headers))
    return identity.event_type, identity.key


def event(**attributes: object) -> CloudEvent:
    return CloudEvent(
        {"id": "1", "source": "/shop", "type": "order.paid", **attributes}, {"total": 1, "text": "kůň 🐎"}
    )


def test_a_cloudevent_is_the_same_in_binary_and_in_structured_mode() -> None:
    binary, structured = called(to_binary_event(event())), called(to_structured_event(event()))
    assert binary == structured
    assert binary[0] == "order.paid"
    assert called(to_binary_event(event(time=datetime(2026, 1, 1, tzinfo=UTC)))) == binary


@pytest.mark.parametrize("change", [{"id": "2"}, {"source": "/other"}])
def test_a_cloudevent_with_another_id_or_source_is_another(change: dict[str, str]) -> None:
    assert called(to_binary_event(event(**change)))[1] != called(to_binary_event(event()))[1]
    assert called(to_structured_event(event(**change)))[1] != called(to_structured_event(event()))[1]


def test_a_batch_of_cloudevents_falls_into_the_events_that_were_put_in() -> None:
    whole = [to_structured_event(event(id=number)) for number in ("1", "2", "3")]
    split = PRESETS["cloudevents"].split
    assert split is not None
    items = split(b"[" + b",".join(message.body for message in whole) + b"]")
    assert items is not None
    assert [called(whole[0], item) for item in items] == [called(message) for message in whole]
