"""What someone without the key can make of a good request: each of these must be refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingest.verify.base import Incoming, Refused, Verifier
from tests.unit.ingest.requests import changed, request, without

Headers = list[tuple[str, str]]


def forgeries(body: bytes, headers: Headers, signed: Sequence[str]) -> Iterator[tuple[str, Incoming]]:
    """Every kind of damage, with a name.

    Args:
        signed: the headers that the scheme cannot do without.
    """
    yield "body with more", request(body + b" ", *headers)
    yield "body with less", request(body[:-1], *headers)
    yield "body with another first character", request(b"\xff" + body[1:], *headers)
    yield "body in other characters", request("☸".encode() + body, *headers)
    yield "no body", request(b"", *headers)
    for name in signed:
        value = {key.lower(): value for key, value in headers}[name.lower()]
        yield f"no {name}", request(body, *without(headers, name))
        yield f"{name} twice", request(body, *headers, (name, value))
        yield f"{name} empty", request(body, *changed(headers, name, ""))
        yield f"{name} in other characters", request(body, *changed(headers, name, "☸é\x00"))
        yield f"{name} longer", request(body, *changed(headers, name, value + "A"))
        yield f"{name} shorter", request(body, *changed(headers, name, value[:-1]))
        yield f"{name} very long", request(body, *changed(headers, name, value * 2000))


def assert_all_refused(verify: Verifier, cases: Iterator[tuple[str, Incoming]], now: float) -> None:
    """Says which of them passed."""
    passed = [name for name, incoming in cases if not isinstance(verify(incoming, now), Refused)]
    assert not passed, passed
