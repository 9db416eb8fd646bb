"""How a delivery's headers are kept: `name: value` lines joined by CRLF, in their order, repeated ones kept.

It is the form they had on the wire (RFC 9112 §5), which needs no explanation and loses nothing: neither a name nor a
value can hold CR or LF.
"""

from __future__ import annotations

from collections.abc import Iterable


def encode_headers(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The lines."""
    return b"\r\n".join([name + b": " + value for name, value in pairs])


def decode_headers(lines: bytes | None) -> list[tuple[str, str]]:
    """The pairs, as Latin-1 text, which every byte has."""
    if not lines:
        return []
    return [
        (name, value) for name, _, value in (line.partition(": ") for line in lines.decode("latin-1").split("\r\n"))
    ]
