"""A TCP proxy before PostgreSQL that loses answers: the statement was carried out, and nobody is told.

It reads the frames of PostgreSQL's protocol, version 3 (PostgreSQL manual, "Message Formats"), so far as it must to
know which connection waits for the answer to a statement that writes, and where that answer ends. Such an answer is
held until its ReadyForQuery has come, which is after the commit, and then passed on, or lost with the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_WRITES = (b"INSERT", b"UPDATE", b"DELETE", b"COMMIT")
_BROKEN = (OSError, asyncio.IncompleteReadError)


class _Cut:
    """The answer that is lost: the `left`-th from now."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.done = asyncio.Event()


class Proxy:
    """Listens on a port of its own, as a context manager; `cuts` is how many answers were lost.

    Args:
        port: PostgreSQL's, on this machine. While it is away, whoever connects is hung up on.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.cuts = 0
        self._target = port
        self._pending: deque[_Cut] = deque()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_failure: object) -> None:
        self._server.close()

    async def cut(self, nth: int, patience: float) -> bool:
        """Loses the `nth` answer to a write from now (1: the next); False if so many did not come in `patience` s."""
        cut = _Cut(nth)
        self._pending.append(cut)
        try:
            async with asyncio.timeout(patience):
                await cut.done.wait()
        except TimeoutError:
            with contextlib.suppress(ValueError):
                self._pending.remove(cut)
        return cut.done.is_set()

    def due(self) -> bool:
        """Counts an answer to a write; True if it is to be lost."""
        for cut in self._pending:
            cut.left -= 1
        if not self._pending or self._pending[0].left > 0:
            return False
        self._pending.popleft().done.set()
        self.cuts += 1
        return True

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self)
        pumps = [
            asyncio.create_task(link.forward(reader, writer, forth)),
            asyncio.create_task(link.backward(back, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.transport.abort()
            forth.transport.abort()


class _Link:
    """One connection. Each side ends when its end of the wire does."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._writing = False
        self._writes: dict[bytes, bool] = {}

    async def forward(
        self, client: asyncio.StreamReader, answer: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> None:
        """What the client says. Encryption is declined, so that the rest can be read."""
        with contextlib.suppress(*_BROKEN):
            while True:
                head = await client.readexactly(8)
                size, code = struct.unpack("!II", head)
                if code not in (_SSL, _GSS):
                    break
                answer.write(b"N")
            server.write(head + await client.readexactly(size - 8))
            while code != _CANCEL:
                kind, frame = await _frame(client)
                self._note(kind, frame[5:])
                server.write(frame)
                await server.drain()

    def _note(self, kind: bytes, payload: bytes) -> None:
        match kind:
            case b"P":  # Parse: name, statement
                name, _, rest = payload.partition(b"\0")
                self._writes[name] = any(word in rest for word in _WRITES)
            case b"B":  # Bind: portal, name
                self._writing = self._writes.get(payload.partition(b"\0")[2].partition(b"\0")[0], False)
            case b"Q":
                self._writing = any(word in payload for word in _WRITES)
            case _:
                pass

    async def backward(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """What the server says; the whole answer to a write at once, or not at all."""
        held: list[bytes] = []
        with contextlib.suppress(*_BROKEN):
            while True:
                kind, frame = await _frame(server)
                held.append(frame)
                if self._writing and kind != b"Z":
                    continue
                if self._writing and _committed(held) and self._proxy.due():
                    return
                self._writing = self._writing and kind != b"Z"
                client.write(b"".join(held))
                held.clear()
                await client.drain()


def _committed(answer: list[bytes]) -> bool:
    """Whether a statement was carried out (CommandComplete) and no transaction is open (ReadyForQuery, idle)."""
    return answer[-1][5:6] == b"I" and any(frame[:1] == b"C" and not frame.endswith(b" 0\0") for frame in answer)


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
