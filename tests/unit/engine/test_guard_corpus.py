"""A corpus of ways to an internal address. Not the error counts but what is dialled: never such an address."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import httpcore2
import pytest

from executor.engine.guard import Guard, GuardedBackend, Resolver
from executor.engine.outbound import OutboundClient
from executor.workflow.outcomes import NodeError
from tests.integration.http_server import Answer, http_server

pytestmark = pytest.mark.anyio
HERE = "127.0.0.1"
ONLY_HERE = ["127.0.0.1/32"]

SPELLINGS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0X7F.1", "0177.0.0.1", "017700000001",
    "0", "0.0.0.0", "127.0.0.1.", "127.255.255.254", "127.0.0.01", "00000177.1",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::ffff:10.0.0.1]",
    "[::ffff:169.254.169.254]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::127.0.0.1]", "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2001:0:7f00:1::]", "[2001:0:53aa:64c:0:0:f5ff:fffe]",
    "[::ffff:0:127.0.0.1]", "[fe80::1]", "[fe80::1%25lo]", "[fe80::1%lo]", "[::1%25lo]", "[fd00::1]", "[fc00::1]",
    "[fd00:ec2::254]", "[ff02::1]", "[fec0::1]", "[100::1]", "[2001:db8::1]", "[v1.fe80::1]",
    "169.254.169.254", "2852039166", "0xa9fea9fe", "169.254.43518", "169.254.170.2", "100.100.100.200",
    "10.0.0.1", "10.1", "012.0.0.1", "192.168.0.1", "192.168.257", "172.16.0.1", "172.31.255.255", "100.64.0.1",
    "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "１２７.0.0.1", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "①②⑦.0.0.1", "１0.0.0.1", "⑩.0.0.1",
    "%31%32%37.0.0.1", "127.0.0.1%00.public.example", "127.0.0.1\t", " 127.0.0.1",
    "public.example@127.0.0.1", "public.example:x@127.0.0.1", "8.8.8.8@127.0.0.1", "8.8.8.8%40@127.0.0.1",
    "8.8.8.8:80@127.0.0.1", "127.0.0.1\\@127.0.0.1", "127.0.0.1#@127.0.0.1", "a@b@127.0.0.1", "[::1]@127.0.0.1",
]  # fmt: skip


async def numeric(host: str, port: int) -> Sequence[str]:
    """The system's reading of a number as an address, whatever its form; no name is asked for."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return [str(entry[4][0]) for entry in found]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the network is asked to connect to, after the guard. Only the loopback's first address answers."""
    asked: list[tuple[str, int]] = []
    real = httpcore2.AnyIOBackend.connect_tcp

    async def connect(self: httpcore2.AnyIOBackend, host: str, port: int, *rest: Any, **named: Any) -> Any:
        asked.append((host, port))
        if host != HERE:
            raise httpcore2.ConnectError(f"{host} is out of reach of the tests")
        return await real(self, host, port, *rest, **named)

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    return asked


@asynccontextmanager
async def a_client(allow: Sequence[str] = (), resolver: Resolver = numeric) -> AsyncIterator[OutboundClient]:
    client = OutboundClient(allow, resolver=resolver)
    try:
        yield client
    finally:
        await client.aclose()


async def refusal(client: OutboundClient, url: str, *, follow: bool = False) -> str:
    """The kind of the refusal; the status where there was an answer."""
    try:
        return str((await client.request("GET", url, timeout=30.0, follow_redirects=follow)).status)
    except NodeError as error:
        return error.kind


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_an_internal_address_is_dialled(host: str, dialled: list[tuple[str, int]]) -> None:
    async with a_client() as client:
        assert await refusal(client, f"http://{host}:8080/") in ("blocked", "input", "connection")
        assert await refusal(client, f"https://{host}/") in ("blocked", "input", "connection")
    assert dialled == []


async def test_the_plain_spellings_are_refused_by_the_guard_and_not_by_chance(dialled: list[tuple[str, int]]) -> None:
    async with a_client() as client:
        for host in ("127.0.0.1", "2130706433", "0x7f.1", "0177.1", "[::1]", "[::ffff:127.0.0.1]", "a@127.0.0.1", "0"):
            assert await refusal(client, f"http://{host}/") == "blocked", host
        assert await refusal(client, "http://8.8.8.8/") == "connection", "a public one is dialled"
    assert dialled == [("8.8.8.8", 80)]


@pytest.mark.parametrize("port", [0, 22, 25, 6379, 65535])
async def test_no_port_opens_an_internal_address(port: int, dialled: list[tuple[str, int]]) -> None:
    async with a_client() as client:
        assert await refusal(client, f"http://127.0.0.1:{port}/") == "blocked"
    assert dialled == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_leads_inside(status: int, dialled: list[tuple[str, int]]) -> None:
    inside = [
        f"{scheme}{host}/" for scheme in ("http://", "https://", "//") for host in ("10.0.0.1", "[::1]", "0x7f.2")
    ]
    tricks = [
        "http:\\\\10.0.0.1\\", "http:///10.0.0.1/", "http:10.0.0.1/", "http:/10.0.0.1/", "\\\\10.0.0.1\\",
        "/\\10.0.0.1/",
        "http://127.0.0.1\\@10.0.0.1/", "http://10.0.0.1\\@127.0.0.1/", "http://127.0.0.1#@10.0.0.1/",
        "http://127.0.0.1@10.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://[::ffff:10.0.0.1]/",
        "http://10.0.0.1:99999/", "///10.0.0.1/", "////10.0.0.1/", "http://１0.0.0.1/", "data:,x",
    ]  # fmt: skip
    elsewhere = [
        "file:///etc/passwd",
        "gopher://10.0.0.1/",
        "ftp://10.0.0.1/",
        "unix:///run/x",
        "dict://[::1]/",
    ]
    async with http_server() as server, a_client(ONLY_HERE) as client:
        for location in [*inside, *tricks, *elsewhere]:
            server.answer = lambda asked, to=location: Answer(status, {"Location": to})  # type: ignore[misc]
            refused = await refusal(client, server.url, follow=True)
            if location in inside or location in elsewhere:
                assert refused == "blocked", location
    assert {host for host, _ in dialled} == {HERE}


async def test_a_location_with_a_line_break_makes_no_header(dialled: list[tuple[str, int]]) -> None:
    async with http_server() as server, a_client(ONLY_HERE) as client:
        for location in ("/a%0d%0aX-Evil: 1", "/a\rX-Evil: 1", "/a\x0bX-Evil: 1", "/a\tX-Evil: 1"):
            server.answer = lambda asked, to=location: Answer(302, {"Location": to})  # type: ignore[misc]
            await refusal(client, server.url, follow=True)
        assert server.asked
        assert all("x-evil" not in asked.headers for asked in server.asked)
    assert {host for host, _ in dialled} == {HERE}


@pytest.mark.parametrize(
    "found", [["8.8.8.8", "10.0.0.1"], ["::1", "2600::1"], ["10.0.0.1"], ["not an address"], ["127.0.0.1 "], []]
)
async def test_a_name_with_one_refused_address_is_not_dialled(found: list[str], dialled: list[tuple[str, int]]) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return found

    async with a_client(resolver=resolver) as client:
        assert await refusal(client, "http://name.example/") == ("blocked" if found else "connection")
    assert dialled == []


async def test_a_name_is_dialled_at_the_address_that_was_checked(dialled: list[tuple[str, int]]) -> None:
    """A name that changes its address between the check and the dialling finds no gap; each connection is checked."""
    answers = [[HERE], ["10.0.0.1"]]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    async with http_server() as server, a_client(ONLY_HERE, rebinding) as client:
        url = f"http://name.example:{server.port}/"
        assert (await client.request("GET", url)).status == 200
        assert answers == [["10.0.0.1"]], "asked once for each connection"
        assert (await client.request("GET", url)).status == 200, "the pooled connection leads where it was checked"
    async with a_client(ONLY_HERE, rebinding) as client:
        assert await refusal(client, url) == "blocked"
    assert [host for host, _ in dialled] == [HERE]
    assert answers == []


@pytest.mark.parametrize(
    "variable", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
)
async def test_a_proxy_of_the_environment_is_not_obeyed(
    variable: str, monkeypatch: pytest.MonkeyPatch, dialled: list[tuple[str, int]]
) -> None:
    async with http_server() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        async with a_client(ONLY_HERE) as client:
            assert await refusal(client, "http://10.0.0.1/") == "blocked"
            assert await refusal(client, "https://8.8.8.8/") == "connection"
        assert proxy.connections == 0
    assert [address for address, _ in dialled if ip_address(address).is_loopback] == []


async def test_a_unix_socket_is_refused() -> None:
    with pytest.raises(NodeError) as refused:
        await GuardedBackend(Guard(["127.0.0.0/8"])).connect_unix_socket("/run/postgresql/.s.PGSQL.5432")
    assert refused.value.kind == "blocked"
    async with a_client(["127.0.0.0/8"]) as client:
        for url in ("unix:///run/x", "http+unix://%2Frun%2Fx/", "http://unix:/run/x", "http://%2Frun%2Fx/"):
            assert await refusal(client, url) in ("blocked", "input", "connection"), url


async def test_a_stream_is_guarded_like_a_request(dialled: list[tuple[str, int]]) -> None:
    async with a_client() as client:
        for host in ("127.0.0.1", "0x7f.1", "[::ffff:10.0.0.1]"):
            with pytest.raises(NodeError) as refused:
                async with client.stream("POST", f"http://{host}/", json={}):
                    pass
            assert refused.value.kind == "blocked"
    assert dialled == []
