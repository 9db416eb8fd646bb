"""Batches and what nobody wanted, from the append to the last run, with the `headrace` command as people type it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from uuid import UUID

import msgspec
import pytest

from events import log
from events.database import Database
from events.deliveries import DeliveryWriter
from events.types import Accepted, Receipt
from tests.rows import batch, handshake
from tests.system import System, chain

pytestmark = pytest.mark.anyio


async def start(system: System) -> None:
    system.relay()
    for queue in ("webhook", "high_priority"):
        await system.worker(queue).says("worker.started")


async def headrace(system: System, *arguments: str) -> tuple[int, str, str]:
    """Types a command; its status, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "executor.cli.main",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=system.environment,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def append(system: System, receipt: Receipt) -> UUID:
    """Appends as ingest does; its source is `hub`."""

    def of_hub(one: Receipt) -> Receipt:
        facts = msgspec.json.encode(msgspec.json.decode(one.metadata) | {"source": "hub"}).decode()
        return msgspec.structs.replace(one, metadata=facts, items=tuple(of_hub(item) for item in one.items))

    database = Database(system.database.url, "ingest")
    await database.open()
    try:
        (appended,) = await DeliveryWriter(database).write([of_hub(receipt)])
    finally:
        await database.close()
    assert isinstance(appended, Accepted)
    return appended.id


def picky(system: System, type: str) -> dict[str, Any]:
    return chain(system.record, "one") | {"on": [{"source": "hub", "type": type}]}


async def test_each_item_of_a_batch_runs_and_the_batch_replays(system: System) -> None:
    await system.apply(picky(system, "paid.*"))
    await start(system)
    id = await append(system, batch("paid.a", "paid.b", "other", "paid.a"))
    await system.until_quiet()
    assert len(await log.runs(system.database)) == 2
    document = json.loads((await headrace(system, "events", str(id), "--json"))[1])
    states = [item["state"] for item in document["items"]]
    assert (document["state"], states) == ("batch", ["routed", "routed", "unwanted", "seen before"])
    status, out, err = await headrace(system, "replay", str(id), "--reason", "again")
    assert (status, len(out.split())) == (0, 2), err
    assert "replayed by chain" in err
    await system.until_quiet()
    assert {run.status for run in await log.runs(system.database)} == {"completed"}
    document = json.loads((await headrace(system, "replay", str(id), "--json"))[1])
    assert (document["delivery_id"], document["routed"], len(document["runs"])) == (str(id), True, 2)
    assert [len(item["runs"]) for item in document["items"]] == [1, 1, 0]
    history = (await headrace(system, "events", str(id)))[1]
    assert history.count("for 3 items") == 2
    listed = (await headrace(system, "events", "--state", "batch", "--source", "hub", "--json"))[1]
    assert [json.loads(line)["id"] for line in listed.splitlines()] == [str(id)]


async def test_what_nobody_wanted_is_found_and_replayed_to_a_workflow_that_does(system: System) -> None:
    await system.apply(picky(system, "never"))
    await start(system)
    id = await append(system, batch("lost.one", "lost.two"))
    await system.until_quiet()
    status, out, err = await headrace(system, "replay", str(id))
    assert (status, out) == (1, "")
    assert "no workflow wants any of the 2 items now" in err
    listed = (await headrace(system, "events", "--state", "unwanted", "--type", "lost.one", "--json"))[1]
    item = json.loads(listed)["id"]
    text = (await headrace(system, "events", item))[1]
    assert "routed: no workflow wants it" in text
    assert f"apply a workflow that wants it, then headrace replay {item}" in text
    await system.apply(picky(system, "lost.*"))
    status, out, err = await headrace(system, "replay", item)
    assert status == 0, err
    await system.until_quiet()
    (run,) = await log.runs(system.database)
    assert (str(run.id), run.status, str(run.delivery_id)) == (out.strip(), "completed", item)
    assert "unwanted" not in (await headrace(system, "events", item))[1]


async def test_a_handshake_is_listed_and_not_replayed(system: System) -> None:
    await system.apply()
    id = await append(system, handshake("slack.url_verification"))
    assert await system.count("SELECT count(*) FROM work_item") == 0
    listed = (await headrace(system, "events", "--state", "handshake", "--json"))[1]
    assert json.loads(listed)["id"] == str(id)
    status, out, err = await headrace(system, "replay", str(id))
    assert (status, out) == (1, "")
    assert "is a handshake (slack.url_verification)" in err
    assert err.count("\n") == 1
