"""Which addresses a node may call: only globally reachable ones, and the networks that the operator allowed.

The check is on the resolved address and the connection goes to that very address, so neither an odd spelling
(decimal, octal, hexadecimal) nor a name that resolves otherwise a moment later gets past it. The lists are
the special-purpose registries of IANA, written out because the standard library's `is_global` differs between
versions; forms that carry an IPv4 address inside an IPv6 one (mapped, compatible, translated, NAT64, 6to4,
Teredo) are refused whole.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import anyio
import httpcore2

from events.errors import ConfigError
from executor.workflow.outcomes import NodeError

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]

_REFUSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
"""Global unicast. All else (loopback, unique local, link-local, multicast, mapped, NAT64…) lies outside."""
_REFUSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_PATIENCE = 5.0
"""Seconds that an address has to answer while there is another to try."""
_METADATA = frozenset(
    ip_address(text) for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254")
)
"""Credentials live there: an allowed network does not open these, only the exact address does."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The system's addresses for a host name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Guard:
    """Says whether an address may be called.

    Args:
        allow: networks (CIDR) that may be called although they are not public.

    Raises:
        ConfigError: an entry is not a network.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        faults: list[str] = []
        self._allow: list[IPv4Network | IPv6Network] = []
        for text in allow:
            try:
                self._allow.append(ip_network(text))
            except ValueError as error:
                faults.append(f"{text}: expected a network such as 10.1.0.0/16, got: {error}")
        if faults:
            raise ConfigError("egress_allow", faults)

    def permits(self, address: str) -> bool:
        """Whether this IP address may be called. False for anything that is not an IP address."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if any(parsed in network for network in self._allow):
            return parsed not in _METADATA or any(
                parsed in network and network.num_addresses == 1 for network in self._allow
            )
        return _is_public(parsed)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _REFUSED_V6)


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections for the HTTP client: resolves once, checks every address, dials a checked one.

    A name with one refused address among public ones is refused: it is not the public service it says it is.
    """

    def __init__(self, guard: Guard, resolver: Resolver = resolve) -> None:
        self._guard = guard
        self._resolver = resolver
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to one of the host's addresses.

        Raises:
            NodeError: kind `blocked`, or `connection` when the name has no address.
            httpcore2.ConnectError: no address answered; the last one's.
        """
        addresses = await self._addresses(host, port)
        patience = _PATIENCE if timeout is None else min(_PATIENCE, timeout)
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, patience, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = await self._resolver(host, port)
        except (OSError, UnicodeError) as error:
            raise NodeError("connection", f"{host}: expected a name that resolves, got: {error}") from None
        if not addresses:
            raise NodeError("connection", f"{host}: expected a name that resolves, got no address")
        refused = [address for address in addresses if not self._guard.permits(address)]
        if refused:
            raise NodeError("blocked", f"{host}: expected public addresses, got {', '.join(refused)}; see egress_allow")
        return addresses

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Never: nodes call public addresses.

        Raises:
            NodeError: kind `blocked`.
        """
        raise NodeError("blocked", f"{path}: expected a network address, got a Unix socket")

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
