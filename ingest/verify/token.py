"""A shared token in a header: `Authorization: Bearer …`, or a header of the sender's own.

Promises: the token is compared in constant time. The body is not signed, so whoever reads one request can
forge any.
"""

from __future__ import annotations

import hmac

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


class Bearer(Description, frozen=True, tag_field="scheme", tag="bearer"):
    """Equality with one of the secrets. `prefix` is matched in any case (RFC 9110 §11.1) and may be empty.

    The header is not part of the dedup key: the same delivery may be sent again under a new token.
    """

    header: str = "Authorization"
    prefix: str = "Bearer "

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        keys = [(Verified(index), secret) for index, secret in enumerate(secrets) if secret.strip()]
        if not keys:
            return refuse_all("the source has no usable secret")
        header, prefix = self.header.lower().encode(), self.prefix.lower().encode()
        no_prefix = Refused(f"header {self.header} does not begin with {self.prefix.strip()}")
        mismatch = Refused("the token does not match")

        def verify(incoming: Incoming, now: float) -> Verification:
            value = only(incoming.headers, header)
            if isinstance(value, Refused):
                return value
            if value[: len(prefix)].lower() != prefix:
                return no_prefix
            given = value[len(prefix) :]
            for verified, secret in keys:
                if hmac.compare_digest(given, secret):
                    return verified
            return mismatch

        return verify

    def credentials(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return ((self.header,), ())

    def summary(self) -> str:
        return f"token in {self.header}"
