"""A small HTTP server on a free port of the loopback, which records what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec


class Asked(msgspec.Struct):
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Answer(msgspec.Struct):
    """One answer; `close` ends the connection without one."""

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes = b""
    close: bool = False


Answers = Callable[[Asked], Answer]


class Server:
    """What the tests see of it. `answer` may be replaced at any time."""

    def __init__(self) -> None:
        self.answer: Answers = lambda asked: Answer()
        self.asked: list[Asked] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(method, target, headers, body))
        answer = self.answer(self.asked[-1])
        if answer.close:
            writer.close()
            return
        lines = [f"HTTP/1.1 {answer.status} X", f"content-length: {len(answer.body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
        await writer.drain()


@asynccontextmanager
async def http_server() -> AsyncIterator[Server]:
    """One that listens until the end of the block."""
    server = Server()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server
        listening.close()
