"""A request as bytes that can be taken apart and altered, before it becomes what ingest verifies."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingest.verify.base import Incoming, headers_of

HOST = "https://hooks.example.com"
PEER = "192.0.2.7"

Pair = tuple[bytes, bytes]


@dataclass(frozen=True)
class Raw:
    """Header names are in lower case, as ASGI has them."""

    body: bytes
    method: str = "POST"
    path: str = "/in/fuzz"
    query: bytes = b""
    headers: tuple[Pair, ...] = ()

    def incoming(self) -> Incoming:
        """As ingest hands it to verifiers."""
        return Incoming(self.method, self.path, self.query, headers_of(list(self.headers)), self.body, PEER)

    def with_headers(self, *more: tuple[str, str | bytes]) -> Raw:
        """With these headers more."""
        encoded = [(n.lower().encode(), v.encode("latin-1") if isinstance(v, str) else v) for n, v in more]
        return replace(self, headers=(*self.headers, *encoded))

    def header(self, name: str) -> bytes:
        """The value of a header that is there once; else nothing."""
        found = [value for key, value in self.headers if key == name.lower().encode()]
        return found[0] if len(found) == 1 else b""
