"""`/in/{source}`: the one route that third parties know. Read this and you know what ingest does.

A raw ASGI handler, mounted in the Litestar application: the request's bytes are read once, verified, appended, and
acknowledged when they are durable. A normal route, which parses and validates on the way, takes twice the time.

    404 unknown source          405 a method that the source does not use     429 more than the source allows
    408 too slow, 413 too large, while reading                                401 not authentic; kept apart for staff
    200 a greeting is answered                                                2xx a delivery, once it is durable
    503 + Retry-After whenever it is not certain to be: the sender comes again
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, Protocol, TypeVar, assert_never

import msgspec
import structlog

from events import faults
from events.errors import HeadraceError, Unavailable
from events.ids import Clock
from events.telemetry import Span, Telemetry
from events.types import Appended, Duplicate, Receipt
from ingest import answers
from ingest.bodies import Bodies, Gone, Receive, Slow, TooLarge
from ingest.catalogue import Catalogue, Source
from ingest.certificates import Certificates
from ingest.coding import Decoder
from ingest.handshakes import Answer
from ingest.peers import Peers
from ingest.rates import Bucket
from ingest.receipt import Arrival, greeting_receipt, receipt_of, redacted, traceparent_of
from ingest.rejections import Rejections
from ingest.reply import Reply
from ingest.room import Copies, Crowded
from ingest.splitting import most_bytes
from ingest.spool_rows import weight
from ingest.verify.base import Incoming, Refused, Verification, Verified, Wanted, headers_of, of_either

LARGE = 1 << 20
"""Bytes of a body above which it is verified and taken apart in a thread."""
GREETING_WAIT = 1.5
"""Seconds that an answered greeting waits for the log; senders give us three."""
GREETINGS = (12, 3600.0)
"""Greetings per source and seconds that are noted in the log: anybody may greet, and must not fill the disk."""


class Keeps(Protocol):
    """What receipts are given to: the keeper."""

    def append(self, receipt: Receipt, /) -> Awaitable[Appended]:
        """Resolves when the receipt is durable; raises HeadraceError."""


P = ParamSpec("P")
Result = TypeVar("Result")
Send = Callable[[dict[str, Any]], Any]
_log = structlog.get_logger(__name__)


class Door:
    """The ASGI application behind `/in`."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        keeper: Keeps,
        bodies: Bodies,
        rejections: Rejections,
        certificates: Certificates,
        peers: Peers,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._catalogue = catalogue
        self._keeper = keeper
        self._bodies = bodies
        self._decoder = Decoder(bodies.room, bodies.limit)
        self._rejections = rejections
        self._certificates = certificates
        self._peers = peers
        self._clock = clock
        self._telemetry = telemetry
        self._greetings: dict[int, Bucket] = {}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request."""
        slug = scope["path"].strip("/")  # Litestar has taken the mount off and put slashes around it
        held = 0
        try:
            try:
                source = self._catalogue.known(slug) or await self._catalogue.find(slug)
                reply = _turned_away(source, scope["method"])
                if reply is None:
                    assert source is not None  # or it would have been turned away
                    raw: list[tuple[bytes, bytes]] = scope["headers"]
                    headers = headers_of(raw)
                    body = await self._bodies.read(receive, headers.get(b"content-length"))
                    held = len(body)
                    peer = self._peers.of(scope) if source.compiled.wants_peer else ""
                    incoming = Incoming(scope["method"], _path(scope), scope["query_string"], headers, body, peer)
                    reply = await self._receive(source, incoming, raw)
            except Gone:
                return
            except TooLarge:
                reply = answers.TOO_LARGE
            except Slow:
                reply = answers.SLOW
            except Crowded:
                reply = answers.CROWDED
            except Exception as error:  # whatever keeps it out of the log is no reason to lose it: it comes again
                reply = _not_stored(slug, error)
            await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
            await send({"type": "http.response.body", "body": reply.body})
        finally:
            self._bodies.room.leave(held)

    async def _receive(self, source: Source, incoming: Incoming, raw: list[tuple[bytes, bytes]]) -> Reply:
        """A request whose body is here."""
        traced = self._telemetry.enabled
        attributes = {"http.request.method": incoming.method, "http.route": "/in/{source}"} if traced else {}
        with self._telemetry.span(
            f"{incoming.method} /in/{{source}}" if traced else "",
            kind="server",
            parent=traceparent_of(incoming.headers),
            attributes=attributes | {"headrace.source": source.slug} if traced else attributes,
        ) as span:
            arrival = Arrival(source, incoming, incoming, raw, self._clock.now(), span.traceparent)
            if b"content-encoding" not in incoming.headers:
                reply = await self._admit(arrival, span)
            else:
                async with self._decoder.decoded(incoming) as plain:
                    reply = await self._admit(msgspec.structs.replace(arrival, plain=plain), span)
            span.set("http.response.status_code", reply.status)
            return reply

    async def _admit(self, arrival: Arrival, span: Span) -> Reply:
        compiled = arrival.source.compiled
        if (answer := compiled.greet(arrival.plain, arrival.now, before=True)) is not None:
            return await self._greet(arrival, answer)
        if arrival.plain.method not in compiled.methods:
            return answers.method_not_allowed(compiled.allow)
        match await self._verify(arrival):
            case Refused(reason):
                span.set("headrace.refused", reason)
                return await self._refuse(arrival, reason)
            case Verified() as verified:
                if (answer := compiled.greet(arrival.plain, arrival.now, before=False)) is not None:
                    return await self._greet(arrival, answer)
                return await self._store(arrival, verified, span)
            case Wanted(url):
                raise Unavailable(f"the certificate at {url} cannot be had now")
            case impossible:
                assert_never(impossible)

    async def _verify(self, arrival: Arrival) -> Verification:
        """Some sign what they send, some what they compressed: either is authentic."""
        verdict = await self._verify_once(arrival, arrival.plain)
        if isinstance(verdict, Refused) and arrival.plain is not arrival.incoming:
            return of_either(verdict, await self._verify_once(arrival, arrival.incoming))
        return verdict

    async def _verify_once(self, arrival: Arrival, incoming: Incoming) -> Verification:
        verify = arrival.source.compiled.verify
        verdict = await _aside(incoming, verify, incoming, arrival.now)
        if isinstance(verdict, Wanted):
            await self._certificates.fetch(verdict.url)
            verdict = await _aside(incoming, verify, incoming, arrival.now)
        return verdict

    async def _store(self, arrival: Arrival, verified: Verified, span: Span) -> Reply:
        source = arrival.source
        if source.bucket is not None and (wait := source.bucket.take(time.monotonic())):
            return answers.too_many(wait)
        with Copies(self._bodies.room) as copies:
            if source.compiled.split is not None and len(arrival.plain.body) > LARGE:  # several at a time, in threads
                copies.hold(most_bytes(arrival.plain.body))
            receipt = await _aside(arrival.plain, receipt_of, arrival, verified)
            copies.hold(sum(map(weight, receipt.items)))
            try:
                with self._telemetry.span("append", parent=arrival.traceparent):
                    appended = await self._keeper.append(receipt)
            except HeadraceError as error:
                span.fail(type(error).__name__)
                return _not_stored(source.slug, error)
        faults.point("ingest.appended")
        if self._telemetry.enabled:
            _describe(appended, span)
        return source.compiled.respond(appended)

    async def _refuse(self, arrival: Arrival, reason: str) -> Reply:
        source = arrival.source
        kept = await self._rejections.keep(
            workspace_id=source.workspace_id,
            source_id=source.id,
            slug=source.slug,
            incoming=arrival.incoming,
            raw_headers=arrival.raw,
            redacted_headers=redacted(arrival.raw, source.compiled.credentials),
            reason=reason,
            now=arrival.now,
        )
        _log.info("delivery.refused", source=source.slug, reason=reason, rejected=str(kept) if kept else None)
        return answers.refused(reason, kept)

    async def _greet(self, arrival: Arrival, answer: Answer) -> Reply:
        """A greeting is answered in time even if the log is away: nothing would be lost with it but a note."""
        source = arrival.source
        if answer.confirm:
            await self._certificates.confirm(answer.confirm)
        noted = self._greetings.setdefault(source.id, Bucket(*GREETINGS))
        if noted.take(time.monotonic()) == 0.0:
            with contextlib.suppress(HeadraceError, TimeoutError):
                appending = asyncio.ensure_future(self._keeper.append(greeting_receipt(arrival, answer.about)))
                await asyncio.wait_for(asyncio.shield(appending), GREETING_WAIT)
        _log.info("greeting.answered", source=source.slug, about=answer.about)
        return answers.greeting(answer)


def _turned_away(source: Source | None, method: str) -> Reply | None:
    """What is answered before the body is read; None where it is worth reading."""
    if source is None:
        return answers.UNKNOWN
    if source.fault is not None:
        raise Unavailable(f"the source cannot be served: {source.fault}")
    compiled = source.compiled
    if method not in compiled.methods and method not in compiled.greeting_methods:
        return answers.method_not_allowed(compiled.allow)
    if source.bucket is not None and (wait := source.bucket.peek(time.monotonic())):
        return answers.too_many(wait)
    return None


async def _aside(incoming: Incoming, work: Callable[P, Result], *args: P.args, **more: P.kwargs) -> Result:
    """Does the work: at once for the usual body, in a thread for a large one, so that nobody else waits for it."""
    if len(incoming.body) <= LARGE:
        return work(*args, **more)
    return await asyncio.to_thread(work, *args, **more)


def _path(scope: dict[str, Any]) -> str:
    """The path as it was sent, undecoded and with the mount: some sign it."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1")


def _not_stored(slug: str, error: Exception) -> Reply:
    """Whatever kept it out of the log: the sender must send it again."""
    match error:
        case Unavailable():
            _log.warning("delivery.not_stored", source=slug, error=str(error))
        case HeadraceError():
            _log.error("delivery.not_stored", source=slug, error=str(error))
        case _:
            _log.error("delivery.not_stored", source=slug, exc_info=error)
    return answers.TRY_AGAIN


def _describe(appended: Appended, span: Span) -> None:
    span.set("headrace.duplicate", isinstance(appended, Duplicate))
    span.set("headrace.event.id", str(appended.first if isinstance(appended, Duplicate) else appended.id))
