"""HTTP Basic authentication (RFC 7617): a user and a password in `Authorization`.

Promises: both are compared in constant time. The body is not signed, so whoever reads one request can forge any.
"""

from __future__ import annotations

import base64
import contextlib
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

_HEADER = b"authorization"


class Basic(Description, frozen=True, tag_field="scheme", tag="basic"):
    """Each secret is `user:password`; only the password may hold a colon (RFC 7617 §2)."""

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        keys: list[tuple[Verified, bytes]] = []
        for index, secret in enumerate(secrets):
            with contextlib.suppress(ValueError):
                self.check_secret(secret)
                keys.append((Verified(index), secret))
        if not keys:
            return refuse_all("the source has no usable secret")
        not_basic = Refused("header Authorization does not begin with Basic, followed by base64")
        mismatch = Refused("the user or the password does not match")

        def verify(incoming: Incoming, now: float) -> Verification:
            value = only(incoming.headers, _HEADER)
            if isinstance(value, Refused):
                return value
            word, _, encoded = value.partition(b" ")
            if word.lower() != b"basic":
                return not_basic
            try:
                given = base64.b64decode(encoded.strip(b" "), validate=True)
            except ValueError:
                return not_basic
            for verified, secret in keys:
                if hmac.compare_digest(given, secret):
                    return verified
            return mismatch

        return verify

    def check_secret(self, secret: bytes) -> None:
        user, colon, password = secret.partition(b":")
        if not (user.strip() and colon and password.strip()):
            raise ValueError("expected user:password, got something else")

    def credentials(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (("Authorization",), ())

    def summary(self) -> str:
        return "user and password in Authorization (Basic)"
