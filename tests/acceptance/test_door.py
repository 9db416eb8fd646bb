"""The one door for all webhooks, as senders and support staff meet it: real processes, real stores, signed requests.

What each preset verifies is shown in `tests/unit/ingest` and `tests/vendors`; here the whole way is.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest

from events import lists, log
from events.definitions import Applying
from events.headers import decode_headers
from events.ids import derived_id
from events.replay import replay
from events.secretbox import SecretBox
from events.types import Event
from executor.workflow.graph import content_hash
from ingest.parsing import parse_source
from tests.system import SECRET_KEY, System, until

pytestmark = pytest.mark.anyio

SECRET = "a secret of the door"


async def apply(system: System, *documents: dict[str, Any], secrets: dict[str, list[str]] | None = None) -> None:
    """Sources; `secrets` by slug where they are others than SECRET alone."""
    async with Applying(system.database) as applying:
        for document in documents:
            slug = document["source"]
            definition = parse_source(document)
            id = await applying.source_id(slug)
            texts = (secrets or {}).get(slug, [SECRET] if definition.secrets else [])
            sealed = [SecretBox(SECRET_KEY).seal(text.encode(), f"source/{id}") for text in texts]
            await applying.source(id, slug, msgspec.to_builtins(definition), sealed, same_secrets=False)


def source(slug: str, preset: str = "generic", **more: Any) -> dict[str, Any]:
    return {"source": slug, "preset": preset} | ({"secrets": [SECRET]} if preset != "none" else {}) | more


def signed(body: bytes, id: str = "", secret: str = SECRET) -> dict[str, str]:
    headers = {"x-signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}
    return headers | ({"x-delivery-id": id} if id else {})


def slack(body: bytes) -> dict[str, str]:
    stamp = str(int(time.time()))
    digest = hmac.new(SECRET.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return {"x-slack-request-timestamp": stamp, "x-slack-signature": f"v0={digest}", "content-type": "application/json"}


async def post(system: System, slug: str, body: bytes, headers: Mapping[str, str] = {}, **more: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=20) as client:
        method = more.pop("method", "POST")
        return await client.request(method, f"{system.url}/in/{slug}", content=body, headers=headers, **more)


async def receipt(system: System, answer: httpx2.Response) -> Event:
    assert answer.status_code == 202, answer.text
    return (await log.stream(system.database, UUID(answer.json()["id"])))[0]


async def test_a_greeting_is_answered_and_kept_and_is_nobody_s_work(system: System) -> None:
    await apply(
        system,
        source("chat", "slack"),
        source("graph", "meta", secrets=[SECRET, {"env": "T", "for": "handshake"}]),
        secrets={"graph": [SECRET, "verify me"]},
    )
    await system.ingest()
    body = b'{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}'
    answer = await post(system, "chat", body, slack(body))
    assert (answer.status_code, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P" in answer.text) == (200, True)
    forged = await post(system, "chat", body, slack(body) | {"x-slack-signature": "v0=" + 64 * "0"})
    assert (forged.status_code, "3eZ" in forged.text) == (401, False)
    query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    answer = await post(system, "graph", b"", method="GET", params=query + "verify%20me")
    assert (answer.status_code, answer.text) == (200, "1158201444")
    answer = await post(system, "graph", b"", method="GET", params=query + "guess")
    assert "1158201444" not in answer.text
    assert answer.status_code in (401, 403, 405)
    found = await lists.deliveries(system.database, state=lists.DeliveryState.HANDSHAKE)
    assert [(one.source, one.state, one.runs) for one in found] == [("graph", "handshake", 0), ("chat", "handshake", 0)]
    assert await system.count("SELECT count(*) FROM work_item") == 0
    greeting = (await log.stream(system.database, found[0].id))[0]
    assert "verify me" not in str(greeting.metadata)
    assert "verify%20me" not in str(greeting.metadata)


async def test_a_batch_is_one_receipt_and_each_of_its_events_runs_once(system: System) -> None:
    split: dict[str, Any] = {"split": {"pointer": "/events"}, "id": {"pointer": "/id"}, "type": {"pointer": "/kind"}}
    note = {"uses": "test.record", "with": {"path": str(system.record)}}
    seen = {"uses": "transform", "with": {"value": "${{ event.body.n }}"}}
    await system.apply(
        {"workflow": "opened", "on": [{"source": "mail", "type": "opened"}], "nodes": {"seen": seen, "note": note}},
        source=source(
            "mail", split={"pointer": "/events"}, id={"pointer": "/id"}, type={"pointer": "/kind"}, secrets=["x"]
        ),
    )
    await apply(system, source("mail", **split))
    await system.ingest()
    system.relay()
    await system.worker().says("worker.started")
    one, two = '{"id":"a","kind":"opened","n":1}', '{"id":"b","kind":"clicked","n":2}'
    body = f'{{"events": [{one}, {two},{one}]}}'.encode()
    first = await receipt(system, await post(system, "mail", body, signed(body)))
    assert (first.body, first.metadata["items"]) == (body, 3)
    again = b'{"events":[{"id":"b","kind":"clicked","n":2},{"id":"c","kind":"opened","n":3}]}'
    second = await receipt(system, await post(system, "mail", again, signed(again)))
    repeated = await post(system, "mail", again, signed(again))
    assert repeated.json() == {"id": str(second.stream_id), "duplicate": True}
    await system.until_quiet()
    assert await system.count("SELECT count(*) FROM event WHERE type = 'delivery.received'") == 5
    assert await system.count("SELECT count(*) FROM run WHERE status = 'completed'") == 2
    item = (await log.stream(system.database, derived_id(second.stream_id, "1")))[0]
    assert item.body == b'{"id":"c","kind":"opened","n":3}'
    facts = item.metadata
    assert (facts["event_type"], facts["delivery_id"], facts["index"]) == ("opened", "c", 1)
    assert facts["batch"] == str(second.stream_id)
    assert len(await log.stream(system.database, derived_id(second.stream_id, "0"))) == 0, "b came with the first batch"


async def test_bodies_are_kept_as_they_came_and_read_as_what_they_are(system: System) -> None:
    await apply(system, source("any", "none", methods=["POST", "PUT"]))
    read = {
        "uses": "transform",
        "with": {"value": {"body": "${{ event.body }}", "form": "${{ event.form }}"}},
    }
    await system.apply(
        {"workflow": "read", "on": [{"source": "any"}], "nodes": {"read": read}},
        source=source("any", "none", methods=["POST", "PUT"]),
    )
    await apply(system, source("any", "none", methods=["POST", "PUT"]))
    await system.ingest()
    system.relay()
    await system.worker().says("worker.started")
    plain = json.dumps({"wheel": "water " * 100}).encode()
    sent = {
        "gzip": (gzip.compress(plain), {"content-encoding": "gzip", "content-type": "application/json"}),
        "form": (b"a=1&a=2&b=%C3%BC", {"content-type": "application/x-www-form-urlencoded"}),
        "junk": (b"\x00\xff{not json", {"content-type": "application/json"}),
        "bomb": (gzip.compress(bytes(40 << 20)), {"content-encoding": "gzip"}),
        "empty": (b"", {}),
    }
    ids = {}
    for name, (body, headers) in sent.items():
        method = "PUT" if name == "junk" else "POST"
        event = await receipt(system, await post(system, "any", body, headers, method=method))
        assert event.body == body, name
        assert event.metadata["method"] == method
        ids[name] = event.stream_id
    await system.until_quiet()
    outputs = {}
    for name, id in ids.items():
        (run,) = await log.runs(system.database, delivery_id=id)
        done = [e for e in await log.stream(system.database, run.id) if e.type == "node.completed"]
        outputs[name] = msgspec.json.decode(done[0].body or b"")["output"] if done else None
    assert outputs["gzip"] == {"body": json.loads(plain), "form": {}}
    assert outputs["form"] == {"body": {"a": "1", "b": "ü"}, "form": {"a": ["1", "2"], "b": ["ü"]}}
    answer = await post(system, "any", b"", method="DELETE")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, PUT")


async def test_a_compressed_body_may_be_signed_either_way(system: System) -> None:
    await apply(system, source("zip"))
    await system.ingest()
    plain = b'{"n": 1}'
    packed = gzip.compress(plain)
    for number, over in enumerate((plain, packed)):
        event = await receipt(
            system, await post(system, "zip", packed, signed(over, str(number)) | {"content-encoding": "gzip"})
        )
        assert (event.body, event.metadata["encoding"]) == (packed, "gzip")
    answer = await post(system, "zip", packed, signed(b"other") | {"content-encoding": "gzip"})
    assert answer.status_code == 401


async def test_what_is_refused_is_kept_apart_and_found_by_what_the_sender_was_told(system: System) -> None:
    await apply(system, source("shop"))
    await system.ingest()
    answer = await post(system, "shop", b"{}", signed(b"{}", secret="wrong"))
    assert (answer.status_code, answer.json()["error"]) == (401, "signature")
    rows = await system.database.fetch(
        "SELECT reason, body FROM rejected WHERE id = $1", UUID(answer.json()["rejected"])
    )
    assert [tuple(row) for row in rows] == [("no signature matches", b"{}")]
    assert await system.count("SELECT count(*) FROM event") == 0


async def test_the_secret_that_matched_is_noted_and_an_ended_one_matches_no_more(system: System) -> None:
    ended, lasting = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
    await apply(
        system,
        source(
            "shop",
            secrets=[{"env": "NEW"}, {"env": "OLD", "until": lasting}, {"env": "OLDEST", "until": ended}],
        ),
        secrets={"shop": ["new", "old", "oldest"]},
    )
    await system.ingest()
    for secret, label in (("new", "NEW"), ("old", "OLD")):
        event = await receipt(system, await post(system, "shop", b"{}", signed(b"{}", label, secret)))
        assert event.metadata["secret"] == label
    answer = await post(system, "shop", b"{}", signed(b"{}", "3", "oldest"))
    assert answer.status_code == 401
    assert "ended at 2020-01-01" in answer.json()["message"]


async def test_a_source_says_how_often_it_may_be_used_and_what_it_answers(system: System) -> None:
    await apply(
        system,
        source("shop", rate={"limit": 1, "per": "1h", "burst": 2}, response={"status": 200, "body": "[accepted]"}),
        source("other"),
    )
    await system.ingest()
    for _ in range(5):
        assert (await post(system, "shop", b"{}", signed(b"{}", secret="forged"))).status_code == 401
    answers = [await post(system, "shop", b"{}", signed(b"{}", str(n))) for n in range(3)]
    assert [(answer.status_code, answer.text) for answer in answers[:2]] == [(200, "[accepted]")] * 2
    assert answers[2].status_code == 429, "forged ones used up nothing, these two did"
    assert 0 < int(answers[2].headers["retry-after"]) <= 3600
    assert (await post(system, "other", b"{}", signed(b"{}", "1"))).status_code == 202


async def test_credentials_are_not_kept(system: System) -> None:
    basic = "Basic " + base64.b64encode(b"shop:open sesame").decode()
    await apply(
        system,
        source("basic", verify={"scheme": "basic"}, id="hash"),
        source("query", verify={"scheme": "apikey", "query": "pass"}, id="hash"),
        secrets={"basic": ["shop:open sesame"], "query": ["open sesame"]},
    )
    await system.ingest()
    for slug, headers, params in (("basic", {"authorization": basic}, {}), ("query", {}, {"pass": "open sesame"})):
        event = await receipt(system, await post(system, slug, b"{}", headers, params=params))
        kept = str(event.metadata) + str(decode_headers(event.headers))
        assert "sesame" not in kept
        assert basic[6:] not in kept


async def test_what_calls_itself_a_secret_is_not_kept_anywhere(system: System) -> None:
    await apply(system, source("shop", id={"header": "X-Token-Id"}))
    await system.ingest()
    names = ("x-webhook-secret", "x-auth-token", "api-key", "private-token", "cookie", "x-goog-channel-token")
    headers = dict.fromkeys(names, "hunter2") | {"x-token-id": "seven", "x-tokenizer": "wheel"}
    event = await receipt(system, await post(system, "shop", b"{}", signed(b"{}") | headers))
    kept = dict(decode_headers(event.headers))
    assert {kept[name] for name in names} == {"[redacted]"}
    assert (kept["x-token-id"], kept["x-tokenizer"]) == ("seven", "wheel")
    answer = await post(system, "shop", b"{}", signed(b"{}", secret="wrong") | headers)
    id = UUID(answer.json()["rejected"])
    rejected = await system.database.fetchval("SELECT headers FROM rejected WHERE id = $1", id)
    assert b"hunter2" not in rejected


async def test_a_stranger_s_greeting_leaves_next_to_nothing(system: System) -> None:
    await apply(system, source("sign", "okta"))
    await system.ingest()
    headers = {"x-okta-verification-challenge": "abc"}
    for _ in range(30):
        answer = await post(system, "sign", b"", headers, method="GET")
        assert answer.json() == {"verification": "abc"}
    assert await system.count("SELECT count(*) FROM event") == 12
    assert (await post(system, "sign", b"w" * 1000, headers, method="GET")).status_code == 405


async def test_only_listed_addresses_may_send(system: System) -> None:
    await apply(system, source("near", addresses=["127.0.0.0/8"]), source("far", addresses=["192.0.2.0/24"]))
    await system.ingest()
    assert (await post(system, "near", b"{}", signed(b"{}", "1"))).status_code == 202
    answer = await post(system, "far", b"{}", signed(b"{}", "1") | {"x-forwarded-for": "192.0.2.7"})
    assert (answer.status_code, "127.0.0.1" in answer.json()["message"]) == (401, True)


async def test_a_stolen_token_of_mailgun_admits_nothing_twice(system: System) -> None:
    await apply(system, source("mail", "mailgun"))
    await system.ingest()

    def body(id: str, token: str) -> bytes:
        stamp = str(int(time.time()))
        signature = hmac.new(SECRET.encode(), (stamp + token).encode(), hashlib.sha256).hexdigest()
        return json.dumps(
            {
                "signature": {"timestamp": stamp, "token": token, "signature": signature},
                "event-data": {"event": "delivered", "id": id},
            }
        ).encode()

    tokens = ["a" * 50, "b" * 50, "c" * 50, "d" * 50]
    first = await post(system, "mail", body("one", tokens[0]))
    stolen = await post(system, "mail", body("two", tokens[0]))
    real = await post(system, "mail", body("two", tokens[1]))
    assert (first.json()["duplicate"], stolen.json(), real.json()["duplicate"]) == (
        False,
        first.json() | {"duplicate": True},
        False,
    )
    again = await post(system, "mail", body("one", tokens[2]))
    stolen = await post(system, "mail", body("three", tokens[2]))
    assert again.json() == stolen.json() == first.json() | {"duplicate": True}, (
        "a second try's token is used up as well"
    )
    assert await system.count("SELECT count(*) FROM event WHERE type = 'delivery.received'") == 2
    real = await post(system, "mail", body("three", tokens[3]))
    assert (real.status_code, real.json()["duplicate"]) == (200, False), "nobody has taken its id"


async def test_an_unwanted_delivery_says_so_and_is_replayed_to_a_workflow_that_came_later(system: System) -> None:
    await apply(system, source("shop"))
    await system.ingest()
    system.relay()
    await system.worker().says("worker.started")
    await system.worker("high_priority").says("worker.started")
    id = (await receipt(system, await post(system, "shop", b'{"n":7}', signed(b'{"n":7}', "1")))).stream_id
    await system.until_quiet()
    (found,) = await lists.deliveries(system.database, state=lists.DeliveryState.UNWANTED)
    assert (found.id, found.runs) == (id, 0)
    nodes = {"note": {"uses": "test.record", "with": {"path": str(system.record)}}}
    async with Applying(system.database) as applying:
        workflow = {"workflow": "late", "on": [{"source": "shop"}], "nodes": nodes}
        await applying.workflow("late", content_hash(workflow), workflow)
    await replay(system.database, id, actor="test", reason="it is wanted now")

    async def ran() -> bool:
        return await system.count("SELECT count(*) FROM run WHERE status = 'completed' AND delivery_id = $1", id) == 1

    await until(ran, "the replay ran")
    assert len(system.recorded()) == 1


async def test_parallel_senders_of_one_delivery_are_told_one_id(system: System) -> None:
    await apply(system, source("shop"))
    await system.ingest()
    answers = await asyncio.gather(*[post(system, "shop", b"{}", signed(b"{}", "same")) for _ in range(12)])
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.json()["duplicate"] for answer in answers) == [False] + [True] * 11
