"""Who sends: only what a trusted proxy wrote is believed."""

from __future__ import annotations

import pytest

from events.errors import ConfigError
from ingest.peers import Peers

TRUSTED = ["10.0.0.0/8", "fd00::/8", "192.0.2.1"]


def sender(client: str, *forwarded: str) -> str:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode()) for value in forwarded)]
    return Peers(TRUSTED).of({"client": (client, 4711), "headers": headers})


@pytest.mark.parametrize(
    ("client", "forwarded", "expected"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["1.2.3.4"], "203.0.113.7"),  # who is not trusted may say what it likes
        ("10.1.2.3", ["1.2.3.4"], "1.2.3.4"),
        ("10.1.2.3", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),  # the left one, the sender wrote itself
        ("10.1.2.3", ["6.6.6.6, 1.2.3.4, 10.9.9.9"], "1.2.3.4"),
        ("10.1.2.3", ["6.6.6.6", "1.2.3.4, 10.9.9.9", "192.0.2.1"], "1.2.3.4"),  # several headers are one list
        ("10.1.2.3", ["10.7.7.7, 10.9.9.9"], "10.7.7.7"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["1.2.3.4:5678"], "1.2.3.4"),
        ("10.1.2.3", ["[2001:DB8::1]:443"], "2001:db8::1"),
        ("10.1.2.3", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.1.2.3", ["2001:0db8::0001"], "2001:db8::1"),
        ("::ffff:10.1.2.3", ["::ffff:1.2.3.4"], "1.2.3.4"),  # a listener on :: sees IPv4 so
        ("fd00::1", ["1.2.3.4"], "1.2.3.4"),
        ("fe80::1%eth0", [], "fe80::1"),
    ],
)
def test_the_sender_is_the_last_one_that_no_proxy_of_ours_is(client: str, forwarded: list[str], expected: str) -> None:
    assert sender(client, *forwarded) == expected


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "unknown",
        "1.2.3.4.5",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4:123456",
        "[::1",
        "[::1]x",
        "_hidden",
        "1.2.3.4:٣",
        "ü",
    ],
)
def test_what_cannot_be_read_is_nobody(garbage: str) -> None:
    assert sender("10.1.2.3", f"1.1.1.1, {garbage}") == ""
    assert sender("10.1.2.3", f"1.1.1.1, {garbage}, 10.2.2.2") == ""
    assert sender("10.1.2.3", f"{garbage}, 1.1.1.1") == "1.1.1.1", "it stands left of what is believed"


def test_without_proxies_nothing_is_believed() -> None:
    scope = {"client": ("10.1.2.3", 1), "headers": [(b"x-forwarded-for", b"1.2.3.4")]}
    assert Peers([]).of(scope) == "10.1.2.3"
    assert Peers([]).of({"client": None, "headers": []}) == ""


def test_a_wrong_network_is_a_fault_of_the_settings() -> None:
    with pytest.raises(ConfigError, match=r"trusted_proxies: expected a network .*, got 'proxy'"):
        Peers(["10.0.0.0/8", "proxy"])
