"""Reading a response: counted while it comes, after decompression, and cut off at a limit; and what the client's
errors mean to a node.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

import httpcore2
import httpx2
import msgspec

from executor.workflow.outcomes import NodeError

RESPONSE_LIMIT = 5 << 20
"""Bytes of a response's body, after decompression."""
STREAM_LIMIT = 32 << 20
"""Bytes of a streamed one, in which a few bytes of text come in an event of hundreds."""
_GZIP = 16 + zlib.MAX_WBITS


class Response(msgspec.Struct, frozen=True):
    """What came back. Header names are in lower case; repeated ones are joined by commas."""

    status: int
    headers: dict[str, str]
    body: bytes


def shown(url: str) -> str:
    """A URL for messages: without the query and the user's name and password, where secrets are."""
    start = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = start.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"[:500]


async def chunks(response: httpx2.Response, limit: int) -> AsyncGenerator[bytes, None]:
    """The parts of a body as they come.

    Raises:
        NodeError: `error` (more than `limit` bytes, or a content encoding other than gzip), `connection` (no gzip).
    """
    where = shown(str(response.url))
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        raise NodeError("error", f"{where}: expected gzip or no content encoding, got {encoding}")
    unzip = zlib.decompressobj(_GZIP) if "gzip" in encoding else None
    size = 0
    try:
        async for chunk in response.aiter_raw():
            # Never more than one byte over the limit is unpacked, whatever the chunk would grow to.
            part = unzip.decompress(chunk, limit - size + 1) if unzip else chunk
            size += len(part)
            if size > limit:
                raise NodeError("error", f"{where}: expected at most {limit:,} bytes, got more")
            yield part
    except zlib.error as error:
        raise NodeError("connection", f"{where}: expected a gzip body, got: {error}") from None


async def read(response: httpx2.Response) -> Response:
    """The whole of it."""
    body = b"".join([part async for part in chunks(response, RESPONSE_LIMIT)])
    return Response(response.status_code, dict(response.headers), body)


class Streaming:
    """A response that is still coming.

    Args:
        what: what was asked, for messages.
        idle: seconds between two parts.
    """

    def __init__(self, response: httpx2.Response, what: str, idle: float | None) -> None:
        self._response = response
        self._what = what
        self._idle = idle
        self.status = response.status_code
        self.headers = dict(response.headers)
        """Names in lower case."""

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, decompressed, 32 MB at most."""
        async with aclosing(chunks(self._response, STREAM_LIMIT)) as parts:
            while True:
                with failures(self._what):
                    async with asyncio.timeout(self._idle):
                        part = await anext(parts, None)
                if part is None:
                    return
                yield part

    async def read(self) -> Response:
        """All of it, 5 MB at most."""
        with failures(self._what):
            async with asyncio.timeout(self._idle):
                return await read(self._response)


@contextmanager
def failures(what: str) -> Iterator[None]:
    """Errors of the client as a node's."""
    try:
        yield
    except (TimeoutError, httpcore2.TimeoutException) as error:
        raise NodeError("timeout", f"{what}: expected a response in time, got none {error}".rstrip()) from None
    except (httpx2.InvalidURL, httpcore2.UnsupportedProtocol) as error:
        raise NodeError("input", f"{what}: expected an http or https URL, got: {error}") from None
    except (httpcore2.LocalProtocolError, UnicodeError, TypeError) as error:
        raise NodeError("input", f"{what}: expected a request that can be sent, got: {error}") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpx2.HTTPError, ssl.SSLError) as error:
        raise NodeError("connection", f"{what}: {type(error).__name__}: {error}") from None
