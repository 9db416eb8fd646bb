"""The main job on real input: a webhook comes in, is verified, kept, acknowledged, worked off, found, replayed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from uuid import UUID

import httpx2
import pytest
import redis.asyncio as redis

from events import lists, log
from events.replay import Replay, outcome, replay
from tests.system import System, chain, until

pytestmark = pytest.mark.anyio


async def start(system: System) -> None:
    await system.ingest()
    system.relay()
    await system.worker().says("worker.started")


async def test_every_real_payload_goes_through_byte_for_byte(
    system: System, github_payloads: list[tuple[str, bytes]]
) -> None:
    seen = {
        "value": {
            "type": "${{ event.type }}",
            "sender": "${{ has(event.body.sender) ? event.body.sender.login : '' }}",
        }
    }
    nodes = {
        "look": {"uses": "transform", "with": seen},
        "note": {"uses": "test.record", "needs": ["look"], "with": {"path": str(system.record)}},
    }
    await system.apply({"workflow": "look", "on": [{"source": "hub"}], "nodes": nodes})
    await start(system)
    limit = asyncio.Semaphore(8)

    async def send(number: int, event: str, body: bytes) -> tuple[UUID, bytes]:
        async with limit:
            return await system.deliver(body, event=event, id=str(number)), body

    sent = await asyncio.gather(*[send(number, event, body) for number, (event, body) in enumerate(github_payloads)])
    await system.until_quiet()
    await system.check(len(github_payloads), nodes=2)
    for (id, body), (event, _) in zip(sent, github_payloads, strict=True):
        receipt = (await log.stream(system.database, id))[0]
        action = json.loads(body).get("action")
        assert receipt.body == body
        assert receipt.metadata["event_type"] == (f"{event}.{action}" if action else event)
        assert receipt.metadata["size"] == len(body)


async def test_the_answers_of_the_door(system: System) -> None:
    await system.apply()
    await start(system)
    first = await system.post(b'{"a": 1}', id="same")
    again = await system.post(b'{"a": 1}', id="same")
    assert (first.status_code, first.json()["duplicate"]) == (202, False)
    assert (again.status_code, again.json()) == (202, {"id": first.json()["id"], "duplicate": True})
    together = await asyncio.gather(*[system.post(b"{}", id="together") for _ in range(8)])
    assert len({response.json()["id"] for response in together}) == 1
    assert sum(not response.json()["duplicate"] for response in together) == 1
    client = system._client
    unsigned = await client.post(f"{system.url}/in/hub", content=b"{}")
    unknown = await client.post(f"{system.url}/in/nobody", content=b"{}")
    got = await client.get(f"{system.url}/in/hub")
    assert [unsigned.status_code, unknown.status_code, got.status_code] == [401, 404, 405]
    assert "x-hub-signature-256" in unsigned.json()["message"]
    assert await system.count("SELECT count(*) FROM event WHERE type = 'delivery.received'") == 2


async def test_a_body_over_the_limit_is_refused_while_it_is_read(system: System) -> None:
    system.environment["HEADRACE_BODY_LIMIT"] = "1MB"
    await system.apply()
    await start(system)
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(4000):
            read += 65536
            yield b"x" * 65536

    exact, over = b"y" * (1 << 20), b"y" * ((1 << 20) + 1)
    assert (await system.post(exact)).status_code == 202
    assert (await system.post(over)).status_code == 413
    with contextlib.suppress(httpx2.TransportError):  # the server hangs up; the client may not get to read why
        assert (await system._client.post(f"{system.url}/in/hub", content=endless())).status_code == 413
    assert read < 4000 * 65536
    assert await system.count("SELECT max((metadata ->> 'size')::int) FROM event") == 1 << 20


async def test_a_delivery_is_found_and_replayed_by_its_id(system: System) -> None:
    await system.apply(chain(system.record, "one", "two"))
    await start(system)
    system.worker("high_priority")
    id = await system.deliver(b'{"n": 1}')
    await system.until_quiet()
    (first,) = await log.runs(system.database, delivery_id=id)
    for asked_id in (id, first.id):
        asked = await replay(system.database, asked_id, actor="support", reason="the customer asked")

        async def routed(asked: Replay = asked) -> bool:
            return await outcome(system.database, asked) is not None

        await until(routed, "the replay is routed")  # nobody rang: the relay sees that it is due
        said = await outcome(system.database, asked)
        assert said is not None
        assert len(said["runs"]) == 1  # type: ignore[arg-type]
    runs = await log.runs(system.database, delivery_id=id)
    assert len(runs) == 3
    await system.until_quiet()
    types = [event.type for event in await log.stream(system.database, id)]
    assert types == ["delivery.received", "delivery.routed", *["delivery.replayed", "delivery.routed"] * 2]


async def test_what_nobody_wanted_says_so_and_can_be_replayed_to_one_that_does(system: System) -> None:
    picky = chain(system.record, "one") | {"on": [{"source": "hub", "if": "event.body.wanted"}]}
    await system.apply(picky)
    await start(system)
    system.worker("high_priority")
    id = await system.deliver(b'{"n": 1}')
    await system.until_quiet()
    (line,) = await lists.deliveries(system.database)
    assert (line.id, line.state, line.runs) == (id, "unwanted", 0)
    routed = json.loads((await log.stream(system.database, id))[1].body or b"")
    assert "wanted" in routed["passed_over"][0]["reason"]
    await system.apply(chain(system.record, "one"))
    await replay(system.database, id, actor="support", reason=None)
    await system.until_quiet()
    await system.check(1, nodes=1)


async def test_a_retry_sleeps_without_a_lease_and_goes_on_from_its_snapshot(system: System) -> None:
    flaky = chain(system.record, "one", "two", uses="test.flaky", failures=2)
    for node in flaky["nodes"].values():
        node["retry"] = {"max_attempts": 3, "first": "300ms", "factor": 1, "max": "1s"}
    await system.apply(flaky)
    await start(system)
    await system.deliver()
    state = redis.Redis.from_url(system.environment["HEADRACE_STATE_REDIS_URL"])

    async def snapshot() -> bool:
        return bool(await state.keys("headrace:snapshot:*"))

    async def asleep() -> bool:
        return (
            await system.count(
                "SELECT count(*) FROM work_item w JOIN run r USING (id) WHERE w.owner IS NULL AND r.status = 'waiting'"
            )
            == 1
        )

    await until(asleep, "the run sleeps")
    await until(snapshot, "it left a snapshot")
    await system.until_quiet()
    await system.check(1, nodes=2)
    assert [(node, attempt) for _, node, attempt, _ in system.recorded()] == [("one", n) for n in (1, 2, 3)] + [
        ("two", n) for n in (1, 2, 3)
    ]
    await state.aclose()


@pytest.mark.parametrize("damage", ["none", "corrupt", "foreign"])
async def test_a_snapshot_that_does_not_fit_is_as_good_as_none(system: System, damage: str) -> None:
    flaky = chain(system.record, "one", "two", uses="test.flaky", failures=1)
    flaky["nodes"]["two"]["retry"] = flaky["nodes"]["one"]["retry"] = {
        "max_attempts": 2,
        "first": "700ms",
        "factor": 1,
        "max": "1s",
    }
    await system.apply(flaky)
    await start(system)
    await system.deliver()
    await system.deliver()
    state = redis.Redis.from_url(system.environment["HEADRACE_STATE_REDIS_URL"])

    async def both() -> bool:
        return len(await state.keys("headrace:snapshot:*")) == 2

    await until(both, "both left a snapshot")
    one, two = sorted(await state.keys("headrace:snapshot:*"))
    match damage:
        case "none":
            await state.flushdb()
        case "corrupt":
            await state.hset(one, "data", b"\0" * 40)
        case "foreign":
            await state.hset(one, "data", await state.hget(two, "data"))
    await system.until_quiet()
    await system.check(2, nodes=2)
    await state.aclose()


async def test_a_synchronous_node_that_never_ends_is_killed_at_its_timeout(system: System) -> None:
    spin = {
        "workflow": "spin",
        "on": [{"source": "hub"}],
        "nodes": {"spin": {"uses": "test.spin", "with": {"seconds": 1}}},
    }
    await system.apply(spin)
    await start(system)
    await system.deliver()
    await system.until_quiet()
    (run,) = await log.runs(system.database)
    assert (run.status, "timeout" in (run.error or "")) == ("failed", True)


async def test_runs_go_to_the_queue_that_their_workflow_names(system: System) -> None:
    await system.apply(chain(system.record, "one") | {"queue": "default"})
    await start(system)
    await system.deliver()

    async def waits() -> bool:
        return await system.count("SELECT count(*) FROM work_item WHERE queue = 'default' AND owner IS NULL") == 1

    await until(waits, "the run waits in its queue")
    system.worker("default")
    await system.until_quiet()
    await system.check(1, nodes=1)
