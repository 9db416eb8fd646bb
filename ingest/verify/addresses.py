"""From which addresses a source takes anything: a list of networks that stands before its scheme.

Promises: it fails closed: an address that cannot be read is in no network, and a list that cannot be read has none.
Both must pass, the list and the scheme; with the preset `none` the list is all there is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from ingest.verify.base import Incoming, Refused, Verification, Verifier, refuse_all

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def network_of(text: str) -> Network:
    """A network in CIDR notation, or a single address. IPv4 mapped into IPv6 counts as IPv4 (RFC 4291 §2.5.5.2).

    Raises:
        ValueError: it is neither, as "expected …, got …".
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            whole = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"expected a network such as 192.0.2.0/24 or 2001:db8::/32, got {text!r}") from None
        raise ValueError(f"expected a network, for example {whole}, got {text!r} with bits of a host") from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        first = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((first, network.prefixlen - 96))
    return network


def within_addresses(verify: Verifier, networks: Sequence[str]) -> Verifier:
    """The verifier, but for senders in one of the networks only. Without networks: the verifier itself."""
    if not networks:
        return verify
    try:
        allowed = [network_of(text) for text in networks]
    except ValueError:
        return refuse_all("the source's list of addresses is not usable")
    unknown = Refused("the sender's address is not known")

    def check(incoming: Incoming, now: float) -> Verification:
        try:
            address = ipaddress.ip_address(incoming.peer.partition("%")[0])
        except ValueError:
            return unknown
        address = getattr(address, "ipv4_mapped", None) or address
        if any(address in network for network in allowed):
            return verify(incoming, now)
        return Refused(f"the sender's address {address} is not in the source's list")

    return check
