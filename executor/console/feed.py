"""What happens, as it happens: a run's events and a workspace's, for whoever has a key that may read.

    GET /live/run/{id}?after=VERSION          WebSocket: {run, version, facts}, all events after the version
    GET /live/workspace?after=CURSOR          WebSocket: {cursor, facts}, all events of the workspace's runs
    GET /live/run/{id}/stream                 the same as server-sent events; their id is the version

Whoever loses the connection comes back with the last `version` or `cursor` that it got, and misses nothing. A browser,
which cannot set headers, offers the subprotocols `bearer` and its key. Codes of closing: 4400 and 4404 are for good,
1013 is for now.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, WebSocket, get, websocket
from litestar.exceptions import WebSocketException
from litestar.params import Parameter
from litestar.response import Stream

from events import live
from events.api_keys import Principal, Role
from events.database import Database
from events.errors import HeadraceError, NotFound, Unavailable
from events.live import Cursor
from executor.console.hub import Crowded, Hub, TooSlow
from executor.console.problems import Refused

SEND = 30.0
"""Seconds in which a watcher has to take a message."""
MOST_HEARD = 1_000
"""Messages that a watcher may send; nobody reads them."""
LAST = 2**31 - 1

Watching = WebSocket[Principal, Any, Any]
Asking = Request[Principal, Any, Any]
After = Annotated[int, Parameter(query="after", ge=-1, le=LAST, description="The last version that is known.")]
Known = Annotated[int | None, Parameter(header="Last-Event-ID", ge=-1, le=LAST, required=False)]
Place = Annotated[str | None, Parameter(query="after", max_length=41, pattern=r"^\d{1,19}\.(-1|\d{1,19})$")]


class _Version(msgspec.Struct):
    version: int


@websocket("/live/run/{run_id:uuid}", opt={"role": Role.VIEWER})
async def run_feed(socket: Watching, run_id: UUID, hub: Hub, database: Database, after: After = -1) -> None:
    """The events of a run after a version; -1, the default, is all."""
    try:
        await _check(database, socket.user, run_id, after)
    except (NotFound, Refused, Unavailable) as error:
        await _accept(socket)
        await _close(
            socket, 4404 if isinstance(error, NotFound) else 4400 if isinstance(error, Refused) else 1013, error
        )
        return
    await _serve(socket, hub.run(run_id, after))


@websocket("/live/workspace", opt={"role": Role.VIEWER})
async def workspace_feed(socket: Watching, hub: Hub, database: Database, after: Place = None) -> None:
    """The events of all runs of the key's workspace after a cursor; by default, from now on."""
    try:
        place = _cursor(after) if after else await live.horizon(database)
    except Unavailable as error:
        await _accept(socket)
        await _close(socket, 1013, error)
        return
    await _serve(socket, hub.workspace(socket.user.workspace_id, place))


@get("/live/run/{run_id:uuid}/stream", opt={"role": Role.VIEWER}, media_type="text/event-stream")
async def run_stream(request: Asking, run_id: UUID, hub: Hub, database: Database, last_event: Known = None) -> Stream:
    """The events of a run as server-sent events, after the last one that the header names."""
    first = -1 if last_event is None else last_event
    await _check(database, request.user, run_id, first)

    async def lines() -> AsyncGenerator[bytes, None]:
        async with aclosing(hub.run(run_id, first)) as messages:
            try:
                async for data in messages:
                    version = msgspec.json.decode(data, type=_Version).version
                    yield b"id: %d\ndata: %b\n\n" % (version, data)
            except (TooSlow, Crowded, Unavailable):
                return  # it comes back by itself, and goes on where it was

    return Stream(lines(), headers={"cache-control": "no-store"})


LIVE = (run_feed, workspace_feed, run_stream)
"""The routes."""


async def _check(database: Database, user: Principal, run_id: UUID, after: int) -> None:
    head = await live.run_head(database, run_id)
    if head is None or head[0] != user.workspace_id:
        raise NotFound(f"run {run_id}: expected one of this workspace, got none")
    if after > head[1]:
        raise Refused(400, f"after: expected at most {head[1]}, the run's version, got {after}")


def _cursor(text: str) -> Cursor:
    tx, _, position = text.partition(".")
    return Cursor(min(int(tx), 2**63 - 1), min(int(position), 2**63 - 1))


async def _serve(socket: Watching, messages: AsyncGenerator[bytes, None]) -> None:
    await _accept(socket)
    sending = asyncio.create_task(_send(socket, messages))
    gone = asyncio.create_task(_gone(socket))
    try:
        await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await _close(socket, 1013, sending.exception())
    finally:
        sending.cancel()
        gone.cancel()
        await asyncio.wait({sending, gone})


async def _send(socket: Watching, messages: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(messages):
        async for data in messages:
            async with asyncio.timeout(SEND):
                await socket.send_data(data.decode())


async def _gone(socket: Watching) -> None:
    """Returns when the watcher has gone, or said too much."""
    for _ in range(MOST_HEARD):
        if (await socket.receive())["type"] == "websocket.disconnect":
            return


async def _accept(socket: Watching) -> None:
    offered = socket.headers.get("sec-websocket-protocol", "")
    await socket.accept(subprotocols="bearer" if offered.partition(",")[0].strip() == "bearer" else None)


async def _close(socket: Watching, code: int, error: BaseException | None) -> None:
    """Closes with the reason, if it is one that may be told."""
    with suppress(WebSocketException, RuntimeError, OSError):  # it had gone
        await socket.close(code, str(error)[:120] if isinstance(error, HeadraceError) else "come back")
