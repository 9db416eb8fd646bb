"""Who sends: the address behind the proxies that are trusted.

A proxy appends the address that it was called from to X-Forwarded-For, so the list is read from the right, and only for
as long as the one who wrote an entry is trusted. Whatever stands further left, anybody may have written. What cannot be
read gives "", which is in no list: it fails closed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any

from events.errors import ConfigError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Peers:
    """Finds the sender's address.

    Args:
        trusted: networks (CIDR) of the proxies, `trusted_proxies`.

    Raises:
        ConfigError: one of them is no network.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        faults: list[str] = []
        networks = []
        for text in trusted:
            try:
                networks.append(ipaddress.ip_network(text.strip(), strict=False))
            except ValueError:
                faults.append(f"trusted_proxies: expected a network such as 10.0.0.0/8, got {text!r}")
        if faults:
            raise ConfigError("settings", faults)
        self._trusted = tuple(networks)

    def of(self, scope: dict[str, Any]) -> str:
        """The sender of an ASGI request: an IPv4 or IPv6 address in its usual form (`203.0.113.7`, `2001:db8::1`), or
        "" when it cannot be told."""
        client = scope.get("client")
        hop = _address(client[0]) if client else None
        for entry in _forwarded(scope["headers"]) if self._trusted else ():
            if hop is None or not self._trusts(hop):
                break
            hop = _address(entry)
        return "" if hop is None else str(hop)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def _forwarded(headers: list[tuple[bytes, bytes]]) -> Iterator[str]:
    """The entries of all X-Forwarded-For headers, from the right."""
    for name, value in reversed(headers):
        if name == b"x-forwarded-for":
            for entry in reversed(value.split(b",")):
                yield entry.decode("latin-1").strip()


def _address(text: str) -> _Address | None:
    """The address, without the port that some proxies add; IPv4 where it is mapped into IPv6."""
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(":" + port):
            return None
    try:
        address = ipaddress.ip_address(text.partition("%")[0])  # a link-local address may name its interface
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_port(text: str) -> bool:
    return text.startswith(":") and len(text) <= 6 and text[1:].isascii() and text[1:].isdigit()
