"""The real service in this process, on a real log: requests go in as ASGI messages, answers and log lines come out.

Its sources are those of `tests.fuzz.sources`. Certificates come from an authority of our own, and nothing is sent to
any network.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import threading
import time
import zlib
from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any
from unittest import mock
from uuid import UUID

import httpx2
import msgspec
import zstandard
from hypothesis import strategies as st
from structlog.testing import capture_logs

from events import log
from events.database import Database
from events.definitions import Applying
from events.secretbox import SecretBox
from events.settings import Settings
from events.telemetry import NoTelemetry
from ingest.app import create_app
from ingest.certificates import Certificates
from ingest.providers import PRESETS
from ingest.verify.base import Site
from ingest.verify.twilio import Twilio
from tests.fuzz.making import TYPES, signable, values
from tests.fuzz.raw import HOST, Raw
from tests.fuzz.signers import OPTIONS, PAYPAL_CERTIFICATE, SNS_CERTIFICATE, signed
from tests.fuzz.sources import NAMES, definition_of, scheme
from tests.unit.ingest.authority import certificate, pem

SECRET_KEY = base64.b64encode(bytes(32)).decode()
PATIENCE = 30.0
"""Seconds for one answer."""
_CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "deflate, gzip": lambda body: gzip.compress(zlib.compress(body)),
    "br": lambda body: body,
    "x-gzip": lambda body: body,  # which it is not
}


@dataclass(frozen=True)
class Answered:
    """What a sender got. `status` 0: nothing, because it went away before the end of its body."""

    status: int
    body: bytes


class Service:
    """Use as a context manager. `ask` may be called from any thread."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._settings = Settings(
            database_url=database_url, redis_url=redis_url, secret_key=SECRET_KEY, public_url=HOST, body_limit=1 << 20
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._ending = asyncio.Event()
        self._logs = contextlib.ExitStack()
        self._lines: list[MutableMapping[str, Any]] = []

    def __enter__(self) -> Service:
        self._lines = self._logs.enter_context(capture_logs())
        self._thread.start()
        opened: Future[None] = Future()
        self._life = asyncio.run_coroutine_threadsafe(self._live(opened), self._loop)
        opened.result(PATIENCE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._life.result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._logs.close()

    def ask(self, slug: str, raw: Raw, pieces: int = 1, stop_after: int | None = None) -> Answered:
        """Sends a request, its body in so many pieces. No exception and no error in the log may come of it.

        Args:
            stop_after: the sender goes away after so many pieces.
        """
        del self._lines[:]
        answered: Answered = self._run(self._ask(slug, raw, pieces, stop_after))
        bad = [line for line in self._lines if line["log_level"] in ("error", "critical") or line.get("exc_info")]
        assert not bad, (bad, raw)
        return answered

    def stored(self, id: UUID) -> bytes | None:
        """The body of a delivery in the log."""
        events = self._run(log.stream(self._database, id))
        return events[0].body if events else None

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _live(self, opened: Future[None]) -> None:
        """From start to end in one task, as the application's lifespan wants it."""
        try:
            self._database = Database(self._settings.database_url, "operator")
            await self._database.open()
            await _apply(self._database)
            certificates = Certificates(transport=httpx2.MockTransport(_network))
            with mock.patch("ingest.app.Certificates", return_value=certificates):
                self._app = create_app(self._settings, NoTelemetry())
            async with self._app.lifespan():
                async with asyncio.timeout(PATIENCE):
                    while (await self._ask("none", Raw(b"ready?"), 1, None)).status == 503:
                        await asyncio.sleep(0.05)
                opened.set_result(None)
                await self._ending.wait()
            await self._database.close()
        except BaseException as error:
            if not opened.done():
                opened.set_exception(error)
            raise

    async def _ask(self, slug: str, raw: Raw, pieces: int, stop_after: int | None) -> Answered:
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": body, "more_body": True} for body in in_pieces(raw.body, pieces)
        ]
        messages[-1]["more_body"] = False
        if stop_after is not None:
            messages = messages[:stop_after]
        left = iter([*messages, {"type": "http.disconnect"}])
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return next(left, {"type": "http.disconnect"})

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "method": raw.method,
            "path": f"/in/{slug}",
            "raw_path": f"/in/{slug}".encode(),
            "root_path": "",
            "query_string": raw.query,
            "headers": list(raw.headers),
            "client": ("192.0.2.7", 4711),
            "server": ("127.0.0.1", 8080),
            "state": {},
        }
        await self._app(scope, receive, send)  # type: ignore[arg-type]  # Litestar types each kind of message apart
        if not sent:
            return Answered(0, b"")
        return Answered(sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]))


def in_pieces(body: bytes, pieces: int) -> list[bytes]:
    """A body in at most so many pieces; an empty one is one."""
    size = -(-len(body) // pieces) or 1
    return [body[start : start + size] for start in range(0, len(body), size)] or [b""]


async def _apply(database: Database) -> None:
    box = SecretBox(SECRET_KEY)
    async with Applying(database) as applying:
        for name in NAMES:
            definition, texts = definition_of(name, f"{HOST}/in/{name}")
            id = await applying.source_id(name)
            sealed = [box.seal(text.encode(), f"source/{id}") for text in texts]
            await applying.source(id, name, msgspec.to_builtins(definition), sealed, same_secrets=False)


def _network(request: httpx2.Request) -> httpx2.Response:
    """What is at the addresses that certificates come from, and subscriptions are confirmed at."""
    hosts = {PAYPAL_CERTIFICATE: "paypal", SNS_CERTIFICATE: "sns"}
    if (name := hosts.get(str(request.url))) is not None:
        return httpx2.Response(200, stream=httpx2.ByteStream(pem(certificate(name))))
    return httpx2.Response(200 if "ConfirmSubscription" in str(request.url) else 404, stream=httpx2.ByteStream(b""))


def check_signed(service: Service, name: str, data: st.DataObject) -> None:
    """Whatever a sender signs is taken, exactly as it came: no body is too odd to be stored."""
    raw = replace(data.draw(signable()), path=f"/in/{name}")
    site = Site(f"{HOST}/in/{name}", OPTIONS)
    how = scheme(name)
    sent = signed(how, raw, site, time.time(), data.draw(st.integers(0, 7)))
    if not isinstance(how, Twilio):  # its signature is over a form only if the type says so
        sent = sent.with_headers(("content-type", data.draw(st.sampled_from(TYPES))))
        coding = data.draw(st.sampled_from(["", "", *_CODERS]))
        if coding:
            sent = replace(sent.with_headers(("content-encoding", coding)), body=_CODERS[coding](sent.body))
    junk = [(f"x-junk-{number}", value) for number, value in enumerate(data.draw(st.lists(values, max_size=3)))]
    sent = sent.with_headers(*junk, ("traceparent", data.draw(values)))
    answered = service.ask(name, sent, data.draw(st.integers(1, 5)))
    assert 200 <= answered.status < 300, (name, answered, sent)
    if answered.status == 202 and answered.body.startswith(b'{"id"'):
        answer = msgspec.json.decode(answered.body)
        if not answer["duplicate"]:
            assert service.stored(UUID(answer["id"])) == sent.body


def check_unsigned(service: Service, name: str, raw: Raw) -> None:
    """Whatever anybody sends, the service says what is wrong with it: never that something is wrong with itself."""
    answered = service.ask(name, raw)
    assert 200 <= answered.status < 500, (name, answered, raw)
    if 200 <= answered.status < 300:
        handshake = PRESETS[name].handshake if name in PRESETS else None
        greeted = handshake is not None and handshake.before and raw.method in handshake.methods
        assert name == "none" or greeted, f"{name} accepted a request by nobody: {raw!r}"
