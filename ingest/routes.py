"""`POST /in/{source}`: the one route that third parties know. Read this and you know what ingest does.

A raw ASGI handler, mounted in the Litestar application: the request's bytes are read once, verified,
appended, and acknowledged when they are durable. A normal route, which parses and validates on the way, takes
twice the time.

    404 unknown source    405 not POST    413 too large, while reading    401 not authentic 202 {"id": …,
    "duplicate": false} once it is in the log    503 + Retry-After whenever it is not certain to be
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, assert_never

import structlog

from events import faults
from events.errors import HeadraceError, Unavailable
from events.ids import Clock, uuid7
from events.telemetry import Span, Telemetry
from events.types import Accepted, Appended, Duplicate, Receipt
from ingest.bodies import Bodies, Gone, Receive, Slow, TooLarge
from ingest.catalogue import Catalogue, Source
from ingest.receipt import metadata_of, redacted, traceparent_of
from ingest.reply import Reply, accepted, problem
from ingest.room import Crowded, Room
from ingest.verify.base import Wanted
from ingest.verify.schemes import Incoming, Refused, Verified, headers_of

RETRY_AFTER = 2
"""Seconds that a sender is asked to wait after a 503."""

Send = Callable[[dict[str, Any]], Any]
_log = structlog.get_logger(__name__)

_SPAN = "POST /in/{source}"
_REQUEST = {"http.request.method": "POST", "http.route": "/in/{source}"}
_NOT_POST = problem(405, "method", "expected POST", [(b"allow", b"POST")])
_UNKNOWN = problem(404, "source", "no source has this name; `headrace apply` makes one")
_TOO_LARGE = problem(
    413,
    "body",
    "the body is larger than this service accepts; nothing was stored",
    [(b"connection", b"close")],
)
_SLOW = problem(
    408, "body", "the body did not come in time; nothing was stored; send it again", [(b"connection", b"close")]
)
_CROWDED = problem(
    503,
    "load",
    "not stored: there is no room for it now; send it again",
    [(b"retry-after", b"%d" % RETRY_AFTER), (b"connection", b"close")],
)
_TRY_AGAIN = problem(
    503,
    "log",
    "not stored: the event log cannot be written now; send it again",
    [(b"retry-after", b"%d" % RETRY_AFTER)],
)


class Keeps(Protocol):
    """What a receipt is given to: the Keeper, or a journal."""

    def append(self, receipt: Receipt, /) -> Awaitable[Appended]:
        """Resolves when the receipt is durable; raises HeadraceError."""


class Door:
    """The ASGI application behind `/in`.

    Args:
        body_limit, body_memory: bytes, of the largest body and of all together.
        body_timeout: seconds that a sender may take for a body.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        keeper: Keeps,
        clock: Clock,
        telemetry: Telemetry,
        body_limit: int,
        body_memory: int = 256 << 20,
        body_timeout: float = 30.0,
    ) -> None:
        self._catalogue = catalogue
        self._keeper = keeper
        self._clock = clock
        self._telemetry = telemetry
        self._bodies = Bodies(Room(body_memory, body_limit), limit=body_limit, timeout=body_timeout)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request."""
        slug = scope["path"].strip("/")  # Litestar has taken the mount off and put slashes around it
        try:
            reply = await self._receive(slug, scope, receive)
        except Gone:
            return
        except TooLarge:
            reply = _TOO_LARGE
        except Slow:
            reply = _SLOW
        except Crowded:
            reply = _CROWDED
        except Exception as error:  # whatever keeps it out of the log is no reason to lose it: the sender comes again
            reply = _not_stored(slug, error)
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _receive(self, slug: str, scope: dict[str, Any], receive: Receive) -> Reply:
        source = self._catalogue.known(slug) or await self._catalogue.find(slug)
        if source is None:
            return _UNKNOWN
        if source.fault is not None:
            raise Unavailable(f"the source cannot be served: {source.fault}")
        if scope["method"] != "POST":
            return _NOT_POST
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        headers = headers_of(raw)
        body = await self._bodies.read(receive, headers.get(b"content-length"))
        try:
            return await self._verify(slug, source, scope, headers, body)
        finally:
            self._bodies.room.leave(len(body))

    async def _verify(self, slug: str, source: Source, scope: dict[str, Any], headers: Any, body: bytes) -> Reply:
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        incoming = Incoming(scope["method"], scope["path"], scope["query_string"], headers, body)
        attributes = _REQUEST | {"headrace.source": slug} if self._telemetry.enabled else {}
        parent = traceparent_of(headers)
        with self._telemetry.span(_SPAN, kind="server", parent=parent, attributes=attributes) as span:
            reply = await self._store(source, incoming, raw, span)
            span.set("http.response.status_code", reply.status)
            return reply

    async def _store(self, source: Source, incoming: Incoming, raw: list[tuple[bytes, bytes]], span: Span) -> Reply:
        match source.compiled.verify(incoming, self._clock.now()):
            case Refused(reason):
                span.set("headrace.refused", reason)
                _log.info("delivery.refused", source=source.slug, reason=reason)
                return problem(401, "signature", reason)
            case Verified(secret):
                receipt = self._receipt(source, incoming, raw, secret, span.traceparent)
                try:
                    appended = await self._append(receipt, span.traceparent)
                except HeadraceError as error:
                    span.fail(type(error).__name__)
                    return _not_stored(source.slug, error)
                if self._telemetry.enabled:
                    _describe(appended, span)
                return self._acknowledge(appended)
            case Wanted(url):
                raise Unavailable(f"the certificate at {url} is not known here")
            case impossible:
                assert_never(impossible)

    def _receipt(
        self,
        source: Source,
        incoming: Incoming,
        raw: list[tuple[bytes, bytes]],
        secret: int,
        traceparent: str | None,
    ) -> Receipt:
        identity = source.compiled.identify(incoming)
        return Receipt(
            stream_id=uuid7(self._clock.now()),
            workspace_id=source.workspace_id,
            source_id=source.id,
            key=identity.key,
            metadata=metadata_of(source.slug, incoming, identity, secret, traceparent),
            headers=redacted(raw),
            body=incoming.body,
        )

    async def _append(self, receipt: Receipt, traceparent: str | None) -> Appended:
        with self._telemetry.span("append", parent=traceparent):
            appended = await self._keeper.append(receipt)
        faults.point("ingest.appended")
        return appended

    def _acknowledge(self, appended: Appended) -> Reply:
        match appended:
            case Accepted(id):
                return accepted(id, b"false")
            case Duplicate(first):
                return accepted(first, b"true")
            case impossible:
                assert_never(impossible)


def _not_stored(slug: str, error: Exception) -> Reply:
    """Whatever kept it out of the log: the sender must send it again."""
    match error:
        case Unavailable():
            _log.warning("delivery.not_stored", source=slug, error=str(error))
        case HeadraceError():
            _log.error("delivery.not_stored", source=slug, error=str(error))
        case _:
            _log.error("delivery.not_stored", source=slug, exc_info=error)
    return _TRY_AGAIN


def _describe(appended: Appended, span: Span) -> None:
    span.set("headrace.duplicate", isinstance(appended, Duplicate))
    span.set("headrace.event.id", str(appended.first if isinstance(appended, Duplicate) else appended.id))
