"""The guard lets public addresses through and nothing that leads inside, however it is spelled."""

from __future__ import annotations

from collections.abc import Sequence

import httpcore2
import pytest

from events.errors import ConfigError
from executor.engine.guard import Guard, GuardedBackend, resolve
from executor.workflow.outcomes import NodeError

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450:4001::1"]
INSIDE = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
    "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_called(address: str) -> None:
    assert Guard().permits(address)


@pytest.mark.parametrize("address", [*INSIDE, "", "localhost", "2130706433", "0177.0.0.1", "1.1.1.1/32"])
def test_an_inside_address_may_not(address: str) -> None:
    assert not Guard().permits(address)


def test_an_allowed_network_may_be_called_and_its_neighbours_may_not() -> None:
    guard = Guard(["10.1.0.0/16", "fd12::/16"])
    assert guard.permits("10.1.2.3")
    assert guard.permits("fd12::1")
    assert not guard.permits("10.2.0.1")
    assert not guard.permits("::ffff:10.1.2.3")


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254"])
def test_metadata_needs_its_exact_address(address: str) -> None:
    assert not Guard(["0.0.0.0/0", "::/0"]).permits(address)
    assert Guard([address]).permits(address)


def test_every_entry_that_is_no_network_is_a_fault() -> None:
    with pytest.raises(ConfigError) as raised:
        Guard(["10.0.0.1/8", "example.org", "10.0.0.0/8"])
    assert [fault.partition(":")[0] for fault in raised.value.faults] == ["10.0.0.1/8", "example.org"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "017700000001", "0177.0.0.1", "127.1", "0", "::1", "::ffff:127.0.0.1"],
)
async def test_odd_spellings_of_loopback_are_blocked(host: str) -> None:
    with pytest.raises(NodeError) as raised:
        await GuardedBackend(Guard(), resolve).connect_tcp(host, 80)
    assert raised.value.kind == "blocked"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["64:ff9b::7f00:1"], ["169.254.169.254"]]
)
async def test_a_name_with_one_inside_address_is_blocked(addresses: list[str]) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return addresses

    with pytest.raises(NodeError) as raised:
        await GuardedBackend(Guard(), resolver).connect_tcp("rebind.example", 80)
    assert raised.value.kind == "blocked"


@pytest.mark.anyio
async def test_the_address_that_was_checked_is_the_one_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["8.8.8.8"], ["127.0.0.1"]]  # a name that turns inside at the second look
    dialled: list[str] = []

    async def resolver(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    async def connect_tcp(self: object, host: str, *_: object) -> httpcore2.AsyncNetworkStream:
        dialled.append(host)
        return httpcore2.AsyncMockStream([])

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect_tcp)
    await GuardedBackend(Guard(), resolver).connect_tcp("rebind.example", 80)
    assert dialled == ["8.8.8.8"]


@pytest.mark.anyio
async def test_unix_sockets_are_blocked() -> None:
    with pytest.raises(NodeError) as raised:
        await GuardedBackend(Guard(["0.0.0.0/0"])).connect_unix_socket("/run/x.sock")
    assert raised.value.kind == "blocked"
