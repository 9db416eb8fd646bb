"""The nodes' HTTP client against a real server: guarded at every hop, bounded, and without memory."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence

import pytest

from executor.engine.outbound import RESPONSE_LIMIT, OutboundClient
from executor.workflow.outcomes import NodeError
from tests.integration.http_server import Answer, Asked, Server, http_server

pytestmark = pytest.mark.anyio
LOOPBACK = ["127.0.0.0/8"]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with http_server() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[OutboundClient]:
    client = OutboundClient(LOOPBACK)
    yield client
    await client.aclose()


async def kind_of(client: OutboundClient, url: str, **options: bool) -> str:
    with pytest.raises(NodeError) as raised:
        await client.request("GET", url, timeout=30.0, **options)  # type: ignore[arg-type]
    return raised.value.kind


async def test_a_request_is_sent_as_given(client: OutboundClient, server: Server) -> None:
    server.answer = lambda asked: Answer(201, {"X-One": "1"}, b"made")
    response = await client.request(
        "PUT", f"{server.url}/a?b=1", headers={"X-Two": "2"}, query={"c": ["x", "y z"]}, json={"n": [1]}
    )
    assert (response.status, response.headers["x-one"], response.body) == (201, "1", b"made")
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == ("PUT", "/a?b=1&c=x&c=y+z", b'{"n":[1]}')
    assert asked.headers["x-two"] == "2"
    assert asked.headers["content-type"] == "application/json"


async def test_without_the_allow_list_loopback_is_blocked(server: Server) -> None:
    strict = OutboundClient()
    for url in (
        server.url,
        f"http://localhost:{server.port}/",
        f"http://2130706433:{server.port}/",
        f"http://0x7f.1:{server.port}/",
        f"http://[::ffff:127.0.0.1]:{server.port}/",
        f"http://public.example@127.0.0.1:{server.port}/",
        f"http://public.example:pw@127.0.0.1:{server.port}/",
    ):
        assert await kind_of(strict, url) == "blocked", url
    assert server.connections == 0
    await strict.aclose()


async def test_a_name_that_resolves_to_loopback_is_blocked(server: Server) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    strict = OutboundClient(resolver=resolver)
    assert await kind_of(strict, f"http://public.example:{server.port}/") == "blocked"
    assert server.connections == 0
    await strict.aclose()


async def test_a_redirect_is_guarded_like_a_first_request(server: Server) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return {"start.example": ["127.0.0.1"]}.get(host, ["127.0.0.2"])

    half = OutboundClient(["127.0.0.1/32"], resolver=resolver)
    server.answer = lambda asked: Answer(302, {"Location": f"http://inside.example:{server.port}/secret"})
    assert await kind_of(half, f"http://start.example:{server.port}/", follow_redirects=True) == "blocked"
    assert [asked.target for asked in server.asked] == ["/"]
    await half.aclose()


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/"])
async def test_a_redirect_to_another_scheme_is_blocked(client: OutboundClient, server: Server, location: str) -> None:
    server.answer = lambda asked: Answer(302, {"Location": location})
    assert await kind_of(client, server.url, follow_redirects=True) == "blocked"


async def test_redirects_are_followed_only_when_asked_and_at_most_five_times(
    client: OutboundClient, server: Server
) -> None:
    server.answer = lambda asked: Answer(307, {"Location": "/again"})
    assert (await client.request("GET", server.url)).status == 307
    assert await kind_of(client, server.url, follow_redirects=True) == "error"
    assert len(server.asked) == 1 + 6


async def test_a_redirect_keeps_the_credentials_of_another_host_to_itself(
    client: OutboundClient, server: Server
) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(302, {"Location": f"http://localhost:{server.port}/b"}) if asked.target == "/a" else Answer()

    server.answer = answer
    await client.request("GET", f"{server.url}/a", headers={"Authorization": "Bearer x"}, follow_redirects=True)
    assert ["authorization" in asked.headers for asked in server.asked] == [True, False]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x.example/", "unix:/run/x", "x.example/a"])
async def test_only_http_is_spoken(client: OutboundClient, url: str) -> None:
    assert await kind_of(client, url) == "blocked"


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://x.example:port/"])
async def test_a_url_that_is_none_is_a_bad_input(client: OutboundClient, url: str) -> None:
    assert await kind_of(client, url) == "input"


async def test_a_header_cannot_smuggle_another(client: OutboundClient, server: Server) -> None:
    with pytest.raises(NodeError) as raised:
        await client.request("GET", server.url, headers={"X-A": "1\r\nX-B: 2"})
    assert raised.value.kind == "input"
    assert server.asked == []


async def test_connections_are_reused(client: OutboundClient, server: Server) -> None:
    for _ in range(3):
        await client.request("GET", server.url)
    assert (len(server.asked), server.connections) == (3, 1)


async def test_cookies_are_not_kept(client: OutboundClient, server: Server) -> None:
    server.answer = lambda asked: Answer(200, {"Set-Cookie": "run=1; Path=/"})
    await client.request("GET", server.url)
    await client.request("GET", server.url)
    assert ["cookie" in asked.headers for asked in server.asked] == [False, False]


async def test_the_environments_proxy_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    client = OutboundClient(LOOPBACK)
    assert (await client.request("GET", server.url)).status == 200
    await client.aclose()


async def test_a_response_may_have_the_limit_and_not_a_byte_more(client: OutboundClient, server: Server) -> None:
    server.answer = lambda asked: Answer(body=b"x" * (RESPONSE_LIMIT + int(asked.target[1:])))
    assert len((await client.request("GET", f"{server.url}/0")).body) == RESPONSE_LIMIT
    assert await kind_of(client, f"{server.url}/1") == "error"


async def test_a_compressed_response_is_counted_unpacked(client: OutboundClient, server: Server) -> None:
    small, bomb = gzip.compress(b"small"), gzip.compress(b"x" * (RESPONSE_LIMIT * 4))
    server.answer = lambda asked: Answer(
        headers={"Content-Encoding": "gzip"}, body=small if asked.target == "/small" else bomb
    )
    assert (await client.request("GET", f"{server.url}/small")).body == b"small"
    assert await kind_of(client, f"{server.url}/bomb") == "error"


async def test_a_redirects_body_is_not_read(client: OutboundClient, server: Server) -> None:
    bomb = gzip.compress(b"x" * (RESPONSE_LIMIT * 4))

    def answer(asked: Asked) -> Answer:
        if asked.target == "/":
            return Answer(302, {"Location": "/next", "Content-Encoding": "gzip"}, bomb)
        return Answer(body=b"arrived")

    server.answer = answer
    assert (await client.request("GET", server.url, follow_redirects=True)).body == b"arrived"


async def test_a_server_that_hangs_up_or_is_not_there_is_a_connection_failure(
    client: OutboundClient, server: Server
) -> None:
    server.answer = lambda asked: Answer(close=True)
    assert await kind_of(client, server.url) == "connection"

    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    lost = OutboundClient(resolver=nowhere)
    assert await kind_of(lost, "http://nowhere.example/") == "connection"
    await lost.aclose()


async def test_a_server_that_says_nothing_is_a_timeout(client: OutboundClient) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client gives up
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(NodeError) as raised:
            await client.request("GET", f"http://127.0.0.1:{port}/", timeout=0.05)
        listening.close()
    assert raised.value.kind == "timeout"
