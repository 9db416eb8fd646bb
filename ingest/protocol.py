"""HTTP/1.1 as uvicorn speaks it on httptools, with bounds on everything that a peer may send. The parser has none.

What it adds:
- A request's line and headers have at most `header_limit` bytes and `MOST_HEADERS` fields, else 431. Chunk extensions
  and trailers, which are dropped, together with the chunks' framing have as many bytes as that and the body.
- A connection that is late, or one too many, is closed (`ingest.connections`); there is no timer per request.
- Unread bytes are counted, and whoever holds too many of them is answered 503.
- At most `MOST_PIPELINED` requests wait for their turn on one connection.
- What cannot be parsed is a 400, and never an answer to an earlier request of the same connection; the log has one line
  a second about all of it, and no traceback.
- At the end of the shutdown's grace, a request that is still under way is answered 503.
- An idle connection holds nothing of its last request.

It is one class, and long, because transport, parser and server each call the same object. It stands on uvicorn's
`HttpToolsProtocol` and its attributes; tests/faults/test_http.py shows what must go on working.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from ingest.connections import FREE, Connections
from ingest.reply import Reply, problem

MOST_HEADERS = 200
"""Header fields of a request, and trailer fields after it."""
MOST_PIPELINED = 64
"""Requests that may wait behind the one that is being answered."""
DEAF = 1 << 20
"""Bytes that a peer may still send, unheard, after it was hung up on."""

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset, and what was not sent is gone
_CLOSE = (b"connection", b"close")
_MALFORMED = problem(400, "request", "expected an HTTP/1.1 request, got something else", _CLOSE)
_HEADERS = problem(431, "headers", "the headers are larger, or more, than this service accepts", _CLOSE)
_CROWDED = problem(
    503, "load", "not stored: there is no room for it now; send it again", _CLOSE, (b"retry-after", b"2")
)
_STOPPING = problem(503, "load", "not stored: this process is ending; send it again", _CLOSE, (b"retry-after", b"2"))


class _Refused(Exception):
    """Ends the parsing of a request that is to be answered at once."""

    def __init__(self, reply: Reply, reason: str) -> None:
        self.reply = reply
        self.reason = reason


class _Dropped(list[tuple[bytes, bytes]]):
    """Takes trailers: whoever looked at the headers has not seen them, so nobody does."""

    def append(self, _field: tuple[bytes, bytes]) -> None:
        """Keeps nothing."""


_DROPPED = _Dropped()


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    scope: Any  # of the message that is coming; None between messages
    headers: Any
    cycle: Any  # of the newest request; None when it was answered and nothing of it is to come

    # Slots: uvicorn's own attributes fill what the instances' dicts can share; one more, and each has its own.
    __slots__ = ("_app", "_body", "_deaf", "_framing", "_house", "_in_body", "_size", "_stamped", "_unread")

    def __init__(self, house: Connections, config: Config, server_state: ServerState, **more: Any) -> None:
        super().__init__(config, server_state, **more)
        self._house = house
        self._app, self.app = self.app, self._run
        self._in_body = False  # whether a body is coming; if it is not, and there is a scope, headers are
        self._size = 0  # bytes of the read that is being parsed, without those of bodies
        self._body = 0  # bytes of the body that is coming
        self._framing = 0  # bytes of the message that is coming, without its body
        self._unread = 0  # bytes that the application has not taken
        self._stamped = False  # whether the time of the headers that are coming counts from their first byte
        self._deaf = False  # whether what comes now is of no interest any more

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._house.opened(self, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._house.closed(self)
        self._count(0)
        self.app = self._app  # no circle for the garbage collector

    def pause_writing(self) -> None:
        super().pause_writing()
        self._house.leaving(self, self.loop.time())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._house.took(self)

    def data_received(self, data: bytes) -> None:
        size = self._size = len(data)
        if self._deaf:
            self._body += size
            if self._body > DEAF:
                self.transport.abort()
            return
        house = self._house
        house.unread += size
        self._unread += size
        if house.unread > house.most_unread and self._unread > FREE and self._holds_too_much():
            self._refuse(_Refused(_CROWDED, "unread_bytes"))
            return
        try:
            if size > FREE and not self._in_body:
                view = memoryview(data)
                for start in range(0, size, FREE):  # so that headers are counted before there are thousands
                    self._parse(view[start : start + FREE])
                    if self.scope and len(self.headers) > MOST_HEADERS:
                        break
            else:
                self._parse(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, _Refused) else _Refused(_MALFORMED, "malformed"))
            return
        if self.scope:
            self._check_unfinished()
        elif not self.cycle:
            self._count(0)  # empty lines between requests

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            # Some clients offer HTTP/2 like this with each request, and the parser leaves the body to that protocol;
            # nothing here speaks it, so the request is read once more, as one that offers nothing.
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
            lines += [b"%b: %b" % field for field in self.headers if field[0] not in (b"connection", b"upgrade")]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(b"\r\n".join([*lines, b"", bytes(data[error.args[0] :])]))

    def _holds_too_much(self) -> bool:
        """Whether what just came is too much, with so much unread on all connections."""
        if not self._in_body:
            return True
        house, kept = self._house, len(self.cycle.body)
        self._count(kept + self._size)
        taking = self._body > kept  # the application takes it as it comes, and so does that of what is just coming
        return self._unread > FREE and house.unread > (2 * house.most_unread if taking else house.most_unread)

    def _check_unfinished(self) -> None:
        self._framing += self._size
        if self._in_body:
            self.recount()
            self._house.holds(self)
            if self._framing > self._house.header_limit + self._body:
                self._refuse(_Refused(_MALFORMED, "framing"))
        elif self._framing > self._house.header_limit:
            self._refuse(_Refused(_HEADERS, "large_headers"))
        elif len(self.headers) > MOST_HEADERS:
            self._refuse(_Refused(_HEADERS, "many_headers"))
        elif not self._stamped and not self.cycle:
            self._stamped = True
            self._house.idle(self, self.loop.time())

    # What the parser calls

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused(_MALFORMED, "connect")
            return  # to `_parse`
        limit = self._house.header_limit
        if self._framing + self._size > limit and self._header_bytes() > limit:
            raise _Refused(_HEADERS, "large_headers")
        if len(self.headers) > MOST_HEADERS:
            raise _Refused(_HEADERS, "many_headers")
        if len(self.pipeline) >= MOST_PIPELINED:
            raise _Refused(_MALFORMED, "pipelined")
        super().on_headers_complete()
        self.headers = _DROPPED
        self._in_body = True
        self._house.busy(self)

    def _header_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        size = len(body)
        self._size -= size
        self._body += size
        cycle = self.cycle
        if not cycle.response_complete:  # else nobody will take it
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        if not self._in_body:
            return  # to `_parse`
        self._in_body = self._stamped = False
        self._body = self._framing = 0
        self.scope = None
        cycle = self.cycle
        if cycle.response_complete:
            self._forget()
        else:
            cycle.more_body = False
            cycle.message_event.set()

    # What the request's task calls

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:  # the server's grace is over
            await send({"type": "http.response.start", "status": _STOPPING.status, "headers": _STOPPING.headers})
            await send({"type": "http.response.body", "body": _STOPPING.body})

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._house.leaving(self, self.loop.time())
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            if cycle.disconnected:
                self.transport.close()  # it was damaged on its way
            else:
                self._start_asgi_task(cycle, app)
            return
        self._house.idle(self, self.loop.time())
        if not self.scope:
            self._forget()

    def _forget(self) -> None:
        """Nothing of the last request is held while the next one is waited for."""
        self.cycle = None
        self.headers = None
        self._count(0)

    def recount(self) -> None:
        """Looks how much of its body a request's application has left untaken."""
        if self._in_body:
            self._count(len(self.cycle.body))

    def _count(self, unread: int) -> None:
        self._house.unread += unread - self._unread
        self._unread = unread

    # How it ends

    def close_now(self) -> None:
        """Closes it without waiting for anything.

        Where answers are left that the peer does not take, the kernel too forgets them: it would hold megabytes of them
        for minutes. Else it is closed in peace, for what the peer has got is lost to it by a reset.
        """
        if self.transport.get_write_buffer_size():
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _refuse(self, refused: _Refused) -> None:
        """Answers the request that is coming, unless others are to be answered first, and hears no more."""
        self._house.turned_away[refused.reason] += 1
        self._count(0)
        self._deaf = True
        under_way = self.cycle and not self.cycle.response_complete
        if self._in_body:
            if not under_way or self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True  # for the application, or for whoever would hand it over
            self.cycle.message_event.set()
            if self.pipeline:
                self.flow.pause_reading()
                return
        elif under_way:  # an earlier one: it is answered, then all is over
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        self._body = 0
        reply = refused.reply
        fields = [*self.server_state.default_headers, *reply.headers]
        lines = [b"%b: %b\r\n" % field for field in fields]
        self.transport.write(b"".join([STATUS_LINE[reply.status], *lines, b"\r\n", reply.body]))
        self.transport.write_eof()  # the peer gets to read it, even while it goes on sending
        self._house.idle(self, self.loop.time())


def protocol(house: Connections) -> type[asyncio.Protocol]:
    """What uvicorn calls for each new connection: its `http` setting."""
    return cast("type[asyncio.Protocol]", functools.partial(HttpProtocol, house))
