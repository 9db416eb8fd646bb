"""Sending: signed as the source wants it, again under the same id until acknowledged, and counted rightly."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from events.errors import ConfigError
from executor.cli import sending
from executor.cli.payloads import load_payloads, own_payloads
from executor.cli.send import _report
from executor.cli.senders import sender_for
from executor.cli.sending import Delivery, Tally, send_all
from ingest.definition import SourceDefinition
from ingest.parsing import parse_source
from ingest.sources import compile_source
from ingest.verify.schemes import Incoming, Verified, headers_of
from tests.unit.ingest.senders import PLAYERS

URL = "https://hooks.example.com/in/test"
SOURCES: list[dict[str, Any]] = [
    {"source": "a", "preset": "github", "secrets": ["key"]},
    {"source": "a", "preset": "stripe", "secrets": ["key"]},
    {"source": "a", "preset": "generic", "secrets": ["key"]},
    {"source": "a", "preset": "standard", "secrets": ["whsec_c2VjcmV0"]},
    {"source": "a", "preset": "generic", "secrets": ["key"], "verify": {"scheme": "bearer"}},
    {
        "source": "a",
        "preset": "generic",
        "secrets": ["key"],
        "verify": {"scheme": "bearer", "header": "X-Key"},
    },
    {"source": "a", "preset": "generic", "secrets": ["key"], "id": {"header": "X-My-Id"}},
]


SOURCES += [
    {"source": "a", "preset": "generic", "secrets": ["key"], **more}
    for more in (
        {"verify": {"scheme": "apikey", "query": "k"}, "id": {"query": "number"}},
        {"verify": {"scheme": "apikey", "header": "X-Key"}, "id": {"pointer": "/order/number"}},
        {"verify": {"scheme": "hmac", "header": "X-S", "signed": "{method} {url} {id}.{body}"}, "url": URL},
        {"verify": {"scheme": "hmac", "header": "X-S", "signed": "{url}{body}"}, "url": URL, "id": {"query": "n"}},
        {"verify": {"scheme": "hmac", "header": "X-S", "signed": "{path} {query} {body}"}, "id": {"query": "n"}},
        {"verify": {"scheme": "hmac", "header": "X-S-{n}", "prefix": "v=", "encoding": "base64url"}, "id": "hash"},
        {
            "verify": {
                "scheme": "hmac",
                "header": "X-S",
                "algorithm": "sha384",
                "pairs": {"separator": ";", "signature": "h1", "timestamp": "ts"},
                "signed": "{timestamp}:{body}",
                "timestamp": {"unit": "ms"},
            }
        },
        {"verify": {"scheme": "hmac", "header": "X-S", "timestamp": {"pointer": "/sent/at", "unit": "iso8601"}}},
        {
            "verify": {
                "scheme": "hmac",
                "header": "X-S",
                "signed": "{timestamp}{body}",
                "timestamp": {"header": "T", "unit": "iso8601"},
            }
        },
        {"verify": {"scheme": "basic"}, "secrets": ["user:pass"]},
        {"verify": {"scheme": "standard"}, "secrets": ["whsec_c2VjcmV0"]},
        {"verify": {"scheme": "hmac", "header": "X-S", "key": "hex"}, "secrets": ["6b6579"]},
    )
]
SOURCES += [
    {"source": "a", "preset": preset, "secrets": [PLAYERS[preset].secret], "url": URL, "text": PLAYERS[preset].text}
    for preset in PLAYERS
]


@pytest.mark.parametrize("document", SOURCES, ids=lambda document: document["preset"])
def test_what_is_sent_passes_the_source_under_an_id_of_its_own(document: dict[str, Any]) -> None:
    text = {**document}.pop("text", '{"id": "x", "type": "order.paid"}')
    definition = parse_source({key: value for key, value in document.items() if key != "text"})
    secret = document["secrets"][0]
    source, make = compile_source(definition, [secret.encode()]), sender_for(definition, secret, URL)
    keys = set()
    for id in ("one", "two", "two"):
        sent = make("order.paid", id, text.encode(), 1_700_000_000.0)
        raw = [(name.lower().encode(), value.encode()) for name, value in sent.headers]
        incoming = Incoming("POST", "/in/test", sent.query.encode(), headers_of(raw), sent.body)
        assert isinstance(source.verify(incoming, 1_700_000_000.0), Verified)
        keys.add(source.identify(incoming).key)
    assert len(keys) == 2


def test_what_nobody_but_the_provider_can_sign_and_an_unusable_secret_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="cannot sign as SendGrid"):
        sender_for(SourceDefinition(source="a", preset="sendgrid"), "key")
    with pytest.raises(ConfigError, match="secret"):
        sender_for(parse_source(SOURCES[0]), " ")


def test_a_batch_gets_an_id_for_each_of_its_events() -> None:
    make = sender_for(SourceDefinition(source="a", preset="hubspot"), "key", URL)
    items = json.loads(make("e", "one", b'[{"eventId":1},{"eventId":1}]', 0.0).body)
    assert [item["subscriptionId"] for item in items] == ["one-0", "one-1"]


@pytest.mark.parametrize("body", [b"", b"a=1", b"\xff", b"[1]", b"3"])
def test_a_body_without_a_place_for_an_id_is_sent_as_it_is(body: bytes) -> None:
    make = sender_for(SourceDefinition(source="a", preset="zoom"), "key")
    assert make("e", "one", body, 0.0).body == body


async def _sent(monkeypatch: pytest.MonkeyPatch, answer: Callable[[httpx2.Request], httpx2.Response]) -> list[Delivery]:
    real = httpx2.AsyncClient

    def client(**_settings: Any) -> httpx2.AsyncClient:
        return real(transport=httpx2.MockTransport(answer))

    monkeypatch.setattr(httpx2, "AsyncClient", client)
    monkeypatch.setattr(sending, "LONGEST", 0.0)
    done: list[Delivery] = []
    make = sender_for(parse_source(SOURCES[0]), "key")
    await send_all("http://x/in/a", [("push", b"{}")] * 3, make, done.append, rate=1e6, concurrency=2)
    return done


async def test_a_5xx_and_a_broken_connection_are_tried_again_under_the_same_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: dict[str, int] = {}

    def answer(request: httpx2.Request) -> httpx2.Response:
        id = request.headers["x-github-delivery"]
        tries[id] = tries.get(id, 0) + 1
        if tries[id] == 1:
            raise httpx2.ConnectError("refused")
        if tries[id] == 2:
            return httpx2.Response(503)
        return httpx2.Response(202, json={"id": str(uuid.uuid4()), "duplicate": tries[id] == 3})

    done = await _sent(monkeypatch, answer)
    assert list(tries.values()) == [3, 3, 3]
    assert [delivery.tries for delivery in done] == [3, 3, 3]
    tally = Tally()
    for delivery in done:
        tally.count(delivery)
    assert (tally.sent, tally.accepted, tally.duplicate, tally.retries) == (3, 0, 3, 6)


async def test_a_4xx_is_final_and_its_reason_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    for delivery in await _sent(monkeypatch, lambda request: httpx2.Response(401, text="no signature matches")):
        tally.count(delivery)
    assert (tally.refused, tally.retries, tally.fault) == (3, 0, "401: no signature matches")


async def test_an_answer_in_the_provider_s_own_form_acknowledges_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    for delivery in await _sent(monkeypatch, lambda request: httpx2.Response(200, text="[accepted]")):
        tally.count(delivery)
    assert (tally.accepted, tally.fault) == (3, "")


async def test_a_sender_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    done = await _sent(monkeypatch, lambda request: httpx2.Response(500, text="broken"))
    assert [(delivery.tries, delivery.acknowledged) for delivery in done] == [(sending.TRIES, False)] * 3


def test_waits_are_named_by_their_share() -> None:
    tally = Tally(waits=[float(n) for n in range(100)])
    assert (tally.wait(0.5), tally.wait(0.99), Tally().wait(0.5)) == (50.0, 99.0, 0.0)


def test_payloads_come_from_lines_and_directories(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"event": "push", "payload": {"n": n}}) for n in range(2)) + "\n"
    (tmp_path / "a.jsonl").write_text(lines)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(lines)
    for name in ("a.jsonl", "a.jsonl.gz"):
        found = load_payloads(tmp_path / name)
        assert [(event, msgspec.json.decode(body)) for event, body in found] == [
            ("push", {"n": 0}),
            ("push", {"n": 1}),
        ]
    (tmp_path / "many").mkdir()
    (tmp_path / "many/stripe.invoice.paid.json").write_text("{}")
    (tmp_path / "many/order.json").write_text("{}")
    assert [event for event, _ in load_payloads(tmp_path / "many")] == ["order", "invoice.paid"]
    assert {event for event, _ in own_payloads("github")} >= {"push", "ping"}


@pytest.mark.parametrize("content", [None, "", '{"event": 1}\n', "not json\n"])
def test_payloads_that_cannot_be_read_are_a_clear_fault(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(ConfigError, match="expected"):
        load_payloads(tmp_path / "a.jsonl")


def test_a_summary_never_says_that_nothing_took_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    quick, none = Tally(), Tally()
    quick.count(Delivery(uuid.uuid4(), False, 200, "", b"", 1, 0.0002))
    none.count(Delivery(None, False, 401, "no", b"", 1, 0.1))
    _report(quick, 1.0, False)
    assert "acknowledged within 1 ms (p50), 1 ms (p99)" in capsys.readouterr().out
    _report(none, 1.0, False)
    assert "within" not in capsys.readouterr().out
