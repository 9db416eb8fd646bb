"""A shared key in a header of the sender's own, or in the query of the address that it was given.

Promises: the key is compared in constant time, and what came more than once is not compared at all. The body is not
signed, so whoever reads one request can forge any.
"""

from __future__ import annotations

import hmac
from urllib.parse import unquote_to_bytes

from ingest.verify.base import (
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verified,
    Verifier,
    only,
    refuse_all,
)


class ApiKey(Description, frozen=True, tag_field="scheme", tag="apikey"):
    """Equality of a header or of a query parameter with one of the secrets; either `header` or `query` is named.

    In a query the key stands where proxies and browsers write it down: a header is better where the sender can.
    """

    header: str = ""
    query: str = ""

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        if self.faults(site):
            return refuse_all("the source's scheme is not usable")
        keys = [(Verified(index), secret) for index, secret in enumerate(secrets) if secret.strip()]
        if not keys:
            return refuse_all("the source has no usable secret")
        header, query = self.header.lower().encode(), self.query.encode()
        mismatch = Refused("the key does not match")

        def verify(incoming: Incoming, now: float) -> Verification:
            given = only(incoming.headers, header) if header else only_parameter(incoming.query, query)
            if isinstance(given, Refused):
                return given
            for verified, secret in keys:
                if hmac.compare_digest(given, secret):
                    return verified
            return mismatch

        return verify

    def faults(self, site: Site) -> list[str]:
        if bool(self.header) == bool(self.query):
            got = "both" if self.header else "neither"
            return [f"header: expected either a header or a query parameter, got {got}"]
        return []

    def credentials(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return ((self.header,) if self.header else (), (self.query,) if self.query else ())

    def summary(self) -> str:
        return f"key in {self.header}" if self.header else f"key in ?{self.query}="


def only_parameter(query: bytes, name: bytes) -> bytes | Refused:
    """The one, non-empty value of a parameter of an undecoded query (application/x-www-form-urlencoded)."""
    values = [
        value
        for parameter, _, value in (pair.partition(b"=") for pair in query.split(b"&"))
        if parameter == name or unquote_to_bytes(parameter.replace(b"+", b" ")) == name
    ]
    if len(values) > 1:
        return Refused(f"query parameter {name.decode()} came more than once")
    if not values or not values[0]:
        return Refused(f"query parameter {name.decode()} is missing")
    return unquote_to_bytes(values[0].replace(b"+", b" "))
