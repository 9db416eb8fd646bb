"""Certificates come from a real TLS server with an authority of its own, and from nowhere else.

The transport leads every host to that server, under the host's own name for TLS: what an attacker in the network could
do, and what a resolver may say.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from events.errors import Overloaded, Unavailable
from ingest import certificates
from ingest.certificates import FAILED, KEPT, MOST_AT_ONCE, MOST_BYTES, MOST_FAILED, MOST_KEPT, Certificates
from tests.unit.ingest.authority import certificate, key_pem, pem

HOST = "certs.example.com"
URL = f"https://{HOST}/certs/one.pem"
ALLOWED = (re.compile(r"https?://(certs|other|wrong|[a-z]+)\.example\.com/[a-z0-9/.]+"),)
CONFIRM = (re.compile(r"https://certs\.example\.com/\?[A-Za-z=&]+"),)
LEAF = certificate("sender", issuer="ca")
CHAIN = pem(LEAF, certificate("ca", authority=True))


class Server:
    """A TLS server for `certs.example.com` and `other.example.com`. `answer` is what the next requests get."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.heads: list[str] = []
        self.answer: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]] = self.found(CHAIN)
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None

    @staticmethod
    def found(body: bytes, status: str = "200 OK", *more: str) -> bytes:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *more]
        return "\r\n".join([*head, "", ""]).encode() + body

    async def start(self, folder: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served = certificate("server", issuer="ca", hosts=(HOST, "other.example.com"))
        (folder / "cert.pem").write_bytes(pem(served))
        (folder / "key.pem").write_bytes(key_pem("server"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            self.paths.append(head.split(" ")[1])
            self.asked.set()
            await self.hold.wait()
            if isinstance(self.answer, bytes):
                writer.write(self.answer)
            else:
                await self.answer(writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def stop(self) -> None:
        self.hold.set()
        assert self._server is not None
        self._server.close()


class Led(httpx2.AsyncHTTPTransport):
    """Every host is the server on this machine. The name for TLS stays the URL's, and so does the scheme."""

    def __init__(self, port: int, authority: str = "ca") -> None:
        trusted = ssl.create_default_context(cadata=pem(certificate(authority, authority=True)).decode())
        super().__init__(verify=trusted, trust_env=False)
        self._port = port
        self.seen: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(str(request.url))
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return await super().handle_async_request(request)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server()
    await server.start(tmp_path)
    yield server
    await server.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def known(server: Server, clock: Clock) -> AsyncIterator[Certificates]:
    known = Certificates(certificates=ALLOWED, confirmations=CONFIRM, transport=Led(server.port), clock=clock)
    yield known
    await known.close()


async def refused(known: Certificates, url: str = URL) -> str:
    with pytest.raises(Unavailable) as caught:
        await known.fetch(url)
    assert url not in known
    return str(caught.value)


async def test_the_senders_own_certificate_is_taken_from_the_chain_and_kept(
    known: Certificates, server: Server, clock: Clock
) -> None:
    assert URL not in known
    await known.fetch(URL)
    assert known[URL] == LEAF
    assert list(known) == [URL]
    assert len(known) == 1
    assert server.paths == ["/certs/one.pem"]
    assert "accept-encoding: identity" in server.heads[0].lower()
    server.answer = server.found(pem(certificate("ca", authority=True), LEAF))
    clock.now += KEPT - 1
    assert known[URL] == LEAF
    clock.now += 2
    assert URL not in known
    assert list(known) == []
    assert len(known) == 0
    await known.fetch(URL)
    assert known[URL] == LEAF


async def test_those_who_ask_at_once_share_one_request(known: Certificates, server: Server) -> None:
    server.hold.clear()
    asking = [asyncio.create_task(known.fetch(URL)) for _ in range(5)]
    await server.asked.wait()
    asking[0].cancel()  # whoever goes away does not take it from the others
    server.hold.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, *[type(None)] * 4]
    assert server.paths == ["/certs/one.pem"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Server.found(b"", "301 Moved", f"Location: https://{HOST}/certs/two.pem"), "expected status 2xx"),
        (Server.found(b"", "302 Found", "Location: http://127.0.0.1/"), "expected status 2xx"),
        (Server.found(b"no", "404 Not Found"), "expected status 2xx"),
        (Server.found(CHAIN, "500 Oops"), "expected status 2xx"),
        (Server.found(b""), "expected a certificate in PEM"),
        (Server.found(b"<html>"), "expected a certificate in PEM"),
        (Server.found(key_pem("server")), "expected a certificate in PEM"),
        (Server.found(pem(certificate("ca", authority=True))), "expected a certificate in PEM"),
        (Server.found(CHAIN + b"\n" * MOST_BYTES), f"expected at most {MOST_BYTES} bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + CHAIN + b"\n" * MOST_BYTES, f"expected at most {MOST_BYTES} bytes"),
        (b"no http\r\n\r\n", "expected an answer over HTTPS"),
        (b"", "expected an answer over HTTPS"),
        (Server.found(CHAIN)[:-10], "expected an answer over HTTPS"),
    ],
)
async def test_what_is_no_certificate_is_not_taken(
    known: Certificates, server: Server, answer: bytes, reason: str
) -> None:
    server.answer = answer
    assert reason in await refused(known)
    assert server.paths == ["/certs/one.pem"]  # no redirect was followed


async def test_a_server_that_does_not_answer_in_time_is_given_up(
    known: Certificates, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "SECONDS", 0.05)
    server.hold.clear()
    assert await refused(known) == "expected an answer within 0.05 s, got none"


async def test_a_server_that_drips_is_given_up_too(
    known: Certificates, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "SECONDS", 0.2)

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b"\n")
            await asyncio.sleep(0.01)

    server.answer = drip
    assert await refused(known) == "expected an answer within 0.2 s, got none"


async def test_a_server_that_cannot_show_the_hosts_certificate_is_not_asked(
    known: Certificates, server: Server
) -> None:
    assert "ConnectError" in await refused(known, "https://wrong.example.com/certs/one.pem")
    assert server.paths == []
    await known.fetch("https://other.example.com/certs/one.pem")


async def test_an_authority_that_is_not_trusted_is_not_believed(server: Server) -> None:
    known = Certificates(certificates=ALLOWED, transport=Led(server.port, "another ca"))
    assert "ConnectError" in await refused(known)
    assert server.paths == []
    await known.close()


async def test_plain_http_is_never_spoken(known: Certificates, server: Server) -> None:
    assert ALLOWED[0].fullmatch("http://certs.example.com/a")
    assert "expected the address of a sender's certificate" in await refused(known, "http://certs.example.com/a")
    assert server.paths == []


async def test_only_the_addresses_of_paypal_and_sns_are_tried_by_default() -> None:
    transport = Led(1)
    known = Certificates(transport=transport)
    for url in (
        "http://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
        "https://evil.example/v1/notifications/certs/CERT-1",
        "https://127.0.0.1/v1/notifications/certs/CERT-1",
        "http://sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
        "file:///etc/passwd",
        "",
    ):
        assert await refused(known, url) == "expected the address of a sender's certificate, got another one"
        with pytest.raises(Unavailable, match="expected an address that confirms"):
            await known.confirm(url)
    assert transport.seen == []
    await known.close()


async def test_a_failure_is_remembered_for_half_a_minute(known: Certificates, server: Server, clock: Clock) -> None:
    server.answer = server.found(b"", "503 Busy")
    await refused(known)
    server.answer = server.found(CHAIN)
    assert "a moment ago" in await refused(known)
    assert server.paths == ["/certs/one.pem"]
    clock.now += FAILED
    await known.fetch(URL)
    assert known[URL] == LEAF


async def test_strangers_make_us_fetch_only_so_much(known: Certificates, server: Server, clock: Clock) -> None:
    await known.fetch(URL)
    clock.now += KEPT + 1
    server.answer = server.found(b"", "404 Not Found")
    for number in range(MOST_FAILED):
        await refused(known, f"https://{HOST}/{number}")
    with pytest.raises(Overloaded):
        await known.fetch(f"https://{HOST}/another")
    assert len(server.paths) == 1 + MOST_FAILED
    server.answer = server.found(CHAIN)
    await known.fetch(URL)  # it was good before: it is tried all the same
    clock.now += FAILED
    await known.fetch(f"https://{HOST}/another")


async def test_only_so_many_are_fetched_at_once(known: Certificates, server: Server) -> None:
    server.hold.clear()
    asking = [asyncio.create_task(known.fetch(f"https://{HOST}/{number}")) for number in range(MOST_AT_ONCE)]
    await server.asked.wait()
    with pytest.raises(Overloaded):
        await known.fetch(f"https://{HOST}/another")
    server.hold.set()
    await asyncio.gather(*asking)


OTHERS = (
    re.compile(r"https://certs\.example\.com/certs/[a-z0-9.]+"),
    re.compile(r"https://other\.example\.com/[a-z0-9.]+"),
)


@pytest.fixture
async def several(server: Server, clock: Clock) -> AsyncIterator[Certificates]:
    """Of two senders."""
    several = Certificates(certificates=OTHERS, transport=Led(server.port), clock=clock)
    yield several
    await several.close()


async def asked_for_ours(server: Server, fetching: asyncio.Task[None], times: int = 1) -> None:
    """Until the server was asked for `URL`, or whoever fetches it has failed."""
    while server.paths.count("/certs/one.pem") < times and not fetching.done():
        server.asked.clear()
        waiting = asyncio.create_task(server.asked.wait())
        await asyncio.wait((waiting, fetching), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()


async def test_failures_at_one_sender_do_not_keep_another_s_certificates_away(
    several: Certificates, server: Server
) -> None:
    server.answer = server.found(b"", "404 Not Found")
    for number in range(MOST_FAILED):
        await refused(several, f"https://other.example.com/{number}")
    server.answer = server.found(CHAIN)
    with pytest.raises(Overloaded):
        await several.fetch("https://other.example.com/another")
    await several.fetch(URL)
    assert several[URL] == LEAF


async def test_fetches_under_way_at_one_sender_do_not_keep_another_s_certificates_away(
    several: Certificates, server: Server
) -> None:
    server.hold.clear()
    asking = [asyncio.create_task(several.fetch(f"https://other.example.com/{n}")) for n in range(MOST_AT_ONCE)]
    await server.asked.wait()
    with pytest.raises(Overloaded):
        await several.fetch("https://other.example.com/another")
    ours = asyncio.create_task(several.fetch(URL))
    await asked_for_ours(server, ours)
    server.hold.set()
    await asyncio.gather(*asking, ours)
    assert several[URL] == LEAF


async def test_a_sender_s_certificates_do_not_push_another_s_out(several: Certificates) -> None:
    await several.fetch(URL)
    for number in range(MOST_KEPT + 1):
        await several.fetch(f"https://other.example.com/{number}")
    assert len(several) == 1 + MOST_KEPT
    assert several[URL] == LEAF
    assert "https://other.example.com/0" not in several


async def test_a_certificate_that_was_good_is_fetched_again_however_many_are_under_way(
    known: Certificates, server: Server, clock: Clock
) -> None:
    await known.fetch(URL)
    clock.now += KEPT + 1
    server.asked.clear()
    server.hold.clear()
    asking = [asyncio.create_task(known.fetch(f"https://{HOST}/{number}")) for number in range(MOST_AT_ONCE)]
    await server.asked.wait()
    again = asyncio.create_task(known.fetch(URL))
    await asked_for_ours(server, again, times=2)
    server.hold.set()
    await asyncio.gather(*asking, again)
    assert known[URL] == LEAF


async def test_only_so_many_are_kept(known: Certificates) -> None:
    for number in range(MOST_KEPT + 1):
        await known.fetch(f"https://{HOST}/{number}")
    assert len(known) == MOST_KEPT
    assert f"https://{HOST}/0" not in known
    assert f"https://{HOST}/{MOST_KEPT}" in known


async def test_what_is_under_way_is_stopped_by_close(known: Certificates, server: Server) -> None:
    server.hold.clear()
    asking = asyncio.create_task(known.fetch(URL))
    await server.asked.wait()
    await known.close()
    with pytest.raises(asyncio.CancelledError):
        await asking


CONFIRMING = f"https://{HOST}/?Action=ConfirmSubscription&Token=SECRET"


async def test_a_subscription_is_confirmed_by_a_call(known: Certificates, server: Server) -> None:
    server.answer = server.found(b"<ConfirmSubscriptionResponse/>")
    await known.confirm(CONFIRMING)
    assert server.paths == ["/?Action=ConfirmSubscription&Token=SECRET"]


@pytest.mark.parametrize("status", ["302 Found", "403 Forbidden", "500 Oops"])
async def test_a_confirmation_that_fails_says_so_without_the_token(
    known: Certificates, server: Server, status: str
) -> None:
    server.answer = server.found(b"", status, f"Location: https://{HOST}/elsewhere")
    with pytest.raises(Unavailable, match="expected status 2xx") as caught:
        await known.confirm(CONFIRMING)
    assert "SECRET" not in str(caught.value)
    assert len(server.paths) == 1
