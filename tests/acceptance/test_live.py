"""What a watcher of a real console gets, by server-sent events and by WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from events import workspaces
from events.api_keys import Role
from tests.acceptance.test_console import Console, console

__all__ = ["console"]  # the fixture
pytestmark = pytest.mark.anyio


async def started(console: Console) -> tuple[Any, str]:
    """An operator's view, and a run that waits for an approval and is at version 1."""
    worker = console.system.worker("high_priority")
    await worker.says("worker.started")
    api = await console.api(Role.ADMIN)
    run = await api("POST", "/run", 202, json={"workflow": "patient"})
    return api, run["id"]


async def test_a_stream_goes_on_after_the_last_event_that_is_known(console: Console) -> None:
    api, id = await started(console)
    facts: list[Any] = []
    last = "0"
    for upto in ("node.waiting", "run.cancelled"):
        headers = {"Last-Event-ID": last}
        async with asyncio.timeout(30), api.client.stream("GET", f"/live/run/{id}/stream", headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    last = value
                elif name == "data":
                    facts += msgspec.json.decode(value)["facts"]
                    if facts and facts[-1]["type"] == upto:
                        break
        if upto == "node.waiting":
            await api("POST", f"/run/{id}/cancel", 202, json={})
    assert [(fact["version"], fact["type"]) for fact in facts] == [
        (1, "node.waiting"),
        (2, "run.cancelling"),
        (3, "run.cancelled"),
    ]
    foreign = await console.api(Role.VIEWER, await workspaces.add(console.system.database, "other", "free"))
    await foreign("GET", f"/live/run/{id}/stream", 404)
    assert "at most 3" in (await api("GET", f"/live/run/{id}/stream", 400, headers={"Last-Event-ID": "99"}))["detail"]


async def test_a_browser_watches_with_a_key_in_its_subprotocols(console: Console) -> None:
    websockets: Any = pytest.importorskip("websockets", reason="uvicorn speaks WebSocket only where it is installed")
    api, id = await started(console)
    url = console.url.replace("http://", "ws://")
    protocols = ["bearer", await console.key(Role.VIEWER)]
    async with (
        asyncio.timeout(30),
        websockets.connect(f"{url}/live/workspace?after=0.0", subprotocols=protocols) as everything,
        websockets.connect(f"{url}/live/run/{id}", subprotocols=protocols) as one,
    ):
        assert one.subprotocol == "bearer"
        while msgspec.json.decode(await one.recv())["version"] < 1:
            pass
        await api("POST", f"/run/{id}/cancel", 202, json={})
        message = msgspec.json.decode(await one.recv())
        assert [fact["version"] for fact in message["facts"]] == [2, 3]
        seen: list[int] = []
        while len(seen) < 4:
            seen += [fact["version"] for fact in msgspec.json.decode(await everything.recv())["facts"]]
        assert seen == [0, 1, 2, 3]
        with pytest.raises(websockets.ConnectionClosedError, match="4400"):
            async with websockets.connect(f"{url}/live/run/{id}?after=99", subprotocols=protocols) as wrong:
                await wrong.recv()
    with pytest.raises(websockets.InvalidStatus, match="403"):
        await websockets.connect(f"{url}/live/run/{id}", subprotocols=["bearer", "hrk_nobody"])
