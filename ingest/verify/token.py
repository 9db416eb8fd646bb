"""A shared token in a header: `Authorization: Bearer …`, or a header of the sender's own.

Promises: the token is compared in constant time. The body is not signed, so whoever reads one request can
forge any.
"""

from __future__ import annotations

import hmac

import msgspec

from ingest.verify.base import Incoming, Refused, Verification, Verified, Verifier, only, refuse_all


class Bearer(msgspec.Struct, frozen=True, tag_field="scheme", tag="bearer"):
    """Equality with one of the secrets. `prefix` is matched in any case (RFC 9110 §11.1) and may be empty."""

    header: str = "Authorization"
    prefix: str = "Bearer "


def compile_bearer(scheme: Bearer, secrets: list[bytes]) -> Verifier:
    """The verifier for one source. It never raises: see `refuse_all`."""
    keys = [(Verified(index), secret) for index, secret in enumerate(secrets) if secret.strip()]
    if not keys:
        return refuse_all("the source has no usable secret")
    header, prefix = scheme.header.lower().encode(), scheme.prefix.lower().encode()

    def verify(incoming: Incoming, now: float) -> Verification:
        value = only(incoming.headers, header)
        if isinstance(value, Refused):
            return value
        if value[: len(prefix)].lower() != prefix:
            return Refused(f"header {scheme.header} does not begin with {scheme.prefix.strip()}")
        given = value[len(prefix) :]
        for verified, secret in keys:
            if hmac.compare_digest(given, secret):
                return verified
        return Refused("the token does not match")

    return verify
