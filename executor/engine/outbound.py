"""The HTTP client that nodes use. Every connection, a redirect's too, goes through the guard.

One client serves a worker. Connections are pooled per scheme, host and port, and each was checked when it was
opened, so a reused one leads where the guard let it lead. Nothing else is shared between requests: no cookies
are kept, nothing is read from the environment (no proxies, no netrc). A response is counted while it is read,
after decompression, and cut off at the limit.

Failures are `NodeError`s: `blocked` (the guard), `connection`, `timeout`, `input` (the request cannot be sent
as it stands), `error` (the response is too large, or leads in circles).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore2
import httpx2
import msgspec

from executor.engine.guard import Guard, GuardedBackend, Resolver, resolve
from executor.engine.outbound_reading import RESPONSE_LIMIT, Response, Streaming, failures, read, shown
from executor.workflow.outcomes import NodeError

__all__ = ["RESPONSE_LIMIT", "OutboundClient", "Response", "Streaming", "shown"]

MAX_REDIRECTS = 5


class OutboundClient:
    """Sends requests to where the guard allows.

    Args:
        allow: networks (CIDR) that may be called although they are not public; a ConfigError if one is none.
        resolver: finds a host's addresses. Default: the system's.
        ssl_context: for services behind a private authority. Default: the system's trust store.
        max_connections: open connections at once, over all hosts. More wait, within their timeout.
    """

    def __init__(
        self,
        allow: Sequence[str] = (),
        *,
        resolver: Resolver = resolve,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int = 200,
    ) -> None:
        pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or httpx2.create_ssl_context(trust_env=False),
            max_connections=max_connections,
            max_keepalive_connections=50,
            keepalive_expiry=15.0,
            network_backend=GuardedBackend(Guard(allow), resolver),
        )
        self._client = httpx2.AsyncClient(
            transport=_Transport(pool),
            trust_env=False,
            timeout=None,  # one over the whole exchange instead, in `request`
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # one run's cookies are not another's
            headers={"accept-encoding": "gzip", "user-agent": "headrace"},
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        json: Any = msgspec.UNSET,
        body: bytes | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - over the whole exchange
        follow_redirects: bool = False,
    ) -> Response:
        """Send one request and read its response, whatever its status.

        Args:
            headers: win over those that the client would send.
            query: added to the URL's own; a list gives a name several values.
            json: a value to send as JSON (with its content type unless given).
            body: or the body as it is.
            timeout: seconds for all of it; None leaves it to the node's timeout.
            follow_redirects: at most 5, each through the guard.

        Raises:
            NodeError: see the module's header.
        """
        with failures(f"{method} {shown(url)}"):
            async with asyncio.timeout(timeout):
                request = self._build(method, url, headers or {}, query, json, body)
                return await self._exchange(request, MAX_REDIRECTS if follow_redirects else 0)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = msgspec.UNSET,
        idle: float | None = None,
    ) -> AsyncIterator[Streaming]:
        """Send one request, and give its response while it comes. Redirects are not followed.

        Args:
            headers: as `request` has them, and `json` too.
            idle: seconds that the other side may be silent, before its answer and within it; None: the node's timeout
                is the only bound.

        Raises:
            NodeError: see the module's header; so does `Streaming.chunks`.
        """
        what = f"{method} {shown(url)}"
        with failures(what):
            async with asyncio.timeout(idle):
                request = self._build(method, url, headers or {}, None, json, None)
                response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            yield Streaming(response, what, idle)
        finally:
            await response.aclose()

    async def _exchange(self, request: httpx2.Request, redirects: int) -> Response:
        """Send it and read the answer, over at most that many redirects; 0: a redirect is the answer.

        The client's own way of following redirects reads their bodies without a limit; this reads none.
        """
        for _ in range(redirects + 1):
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                if redirects == 0 or response.next_request is None:
                    return await read(response)
                request = response.next_request
            finally:
                await response.aclose()
        raise NodeError("error", f"{shown(str(request.url))}: expected at most {redirects} redirects, got more")

    def _build(  # noqa: PLR0917 - as `request` has them
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        query: Mapping[str, Any] | None,
        json: Any,
        body: bytes | str | None,
    ) -> httpx2.Request:
        target = httpx2.URL(url)
        if target.scheme not in ("http", "https"):
            raise NodeError(
                "blocked", f"{shown(url)}: expected an http or https URL, got {target.scheme or 'no scheme'}"
            )
        if not target.host:
            raise NodeError("input", f"{shown(url)}: expected a host in the URL, got none")
        if query:
            target = target.copy_merge_params(query)
        if json is msgspec.UNSET:
            return self._client.build_request(method, target, headers=headers, content=body)
        merged = httpx2.Headers({"content-type": "application/json"})
        merged.update(headers)
        return self._client.build_request(method, target, headers=merged, content=msgspec.json.encode(json))

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._client.aclose()


class _Transport(httpx2.AsyncBaseTransport):
    """httpx's way to the pool. Errors of the pool and of the guard pass as they are."""

    def __init__(self, pool: httpcore2.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        url = request.url
        if url.scheme not in ("http", "https"):
            raise NodeError(
                "blocked", f"{shown(str(url))}: expected an http or https URL, got a redirect to {url.scheme}"
            )
        answer = await self._pool.handle_async_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Stream(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._answer.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()
