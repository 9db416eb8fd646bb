"""The outbound client with a span around every request: what a node sends, and how it was answered.

The receiver continues this span: a `traceparent` that the node sends on is replaced by the span's own. Of a
URL the host and port are recorded, and no more: paths and queries hold secrets (chat webhooks, signed links).

The names are those of OpenTelemetry's semantic conventions for HTTP clients.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from events.telemetry import CURRENT, Telemetry
from executor.engine.outbound import OutboundClient, Response, Streaming
from executor.workflow.outcomes import NodeError


def outbound_client(allow: Sequence[str], telemetry: Telemetry) -> OutboundClient:
    """The client of a worker's nodes; the plain one when telemetry is off."""
    return TracedClient(allow, telemetry) if telemetry.enabled else OutboundClient(allow)


class TracedClient(OutboundClient):
    """An outbound client whose requests are client spans.

    Args:
        allow: as `OutboundClient` has it.
    """

    def __init__(self, allow: Sequence[str], telemetry: Telemetry) -> None:
        super().__init__(allow)
        self._telemetry = telemetry

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        json: Any = msgspec.UNSET,
        body: bytes | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as the base has it
        follow_redirects: bool = False,
    ) -> Response:
        """As `OutboundClient.request`. The parent is the `traceparent` that the node sends on, else its span."""
        given = {name.lower(): value for name, value in (headers or {}).items()}
        parent = given.get("traceparent") or CURRENT.get()
        with self._telemetry.span(method, kind="client", parent=parent, attributes=_about(method, url)) as span:
            if "traceparent" in given and span.traceparent is not None:
                headers = given | {"traceparent": span.traceparent}
            try:
                response = await super().request(
                    method,
                    url,
                    headers=headers,
                    query=query,
                    json=json,
                    body=body,
                    timeout=timeout,
                    follow_redirects=follow_redirects,
                )
            except NodeError as error:
                span.fail(error.kind)
                raise
            span.set("http.response.status_code", response.status)
            if response.status >= 400:
                span.fail(str(response.status))
            return response

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
        """As `OutboundClient.stream`; the span ends with the answer."""
        given = {name.lower(): value for name, value in (headers or {}).items()}
        parent = given.get("traceparent") or CURRENT.get()
        with self._telemetry.span(method, kind="client", parent=parent, attributes=_about(method, url)) as span:
            if "traceparent" in given and span.traceparent is not None:
                headers = given | {"traceparent": span.traceparent}
            try:
                async with super().stream(method, url, headers=headers, json=json, idle=idle) as answer:
                    span.set("http.response.status_code", answer.status)
                    if answer.status >= 400:
                        span.fail(str(answer.status))
                    yield answer
            except NodeError as error:
                span.fail(error.kind)
                raise


def _about(method: str, url: str) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {"http.request.method": method}
    try:
        target = urlsplit(url)
        host, port = target.hostname, target.port
    except ValueError:  # the client says what is wrong with it
        return attributes
    if host is not None:
        attributes["server.address"] = host
        attributes["server.port"] = port or (443 if target.scheme == "https" else 80)
    return attributes
