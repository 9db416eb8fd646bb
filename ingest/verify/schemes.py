"""All signature schemes, as one closed set of descriptions, and what turns a description into a verifier.

Promises: a description is plain data (it is stored as JSON); compiling happens once for each source, and what
it returns does no I/O, reads no clock and never raises. Each scheme has a module of its own beside this one.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from ingest.verify.base import (
    NO_SECRET,
    TOLERANCE,
    Incoming,
    Refused,
    Verification,
    Verified,
    Verifier,
    headers_of,
    refuse_all,
)
from ingest.verify.mac import Hmac, Pairs, Timestamp, hmac_faults, hmac_key
from ingest.verify.mac_check import compile_hmac
from ingest.verify.standard import Standard, compile_standard, standard_key
from ingest.verify.token import Bearer, compile_bearer

__all__ = [
    "NO_SECRET",
    "TOLERANCE",
    "Bearer",
    "Hmac",
    "Incoming",
    "Pairs",
    "Refused",
    "Scheme",
    "Standard",
    "Timestamp",
    "Unsigned",
    "Verification",
    "Verified",
    "Verifier",
    "check_secret",
    "compile_scheme",
    "headers_of",
    "refuse_all",
    "scheme_faults",
    "signed_headers",
]


class Unsigned(msgspec.Struct, frozen=True, tag_field="scheme", tag="none"):
    """Nothing is verified: whoever knows the address can post. The console says so, loudly."""


Scheme = Hmac | Standard | Bearer | Unsigned


def compile_scheme(scheme: Scheme, secrets: list[bytes], url: str = "") -> Verifier:
    """The verifier of one source; without a usable secret or description, one that refuses everything.

    Args:
        secrets: oldest first or newest first, any of them passes; a blank or malformed one matches nothing.
        url: the source's public URL, for senders that sign it.
    """
    match scheme:
        case Hmac():
            return compile_hmac(scheme, secrets, url)
        case Standard():
            return compile_standard(scheme, secrets)
        case Bearer():
            return compile_bearer(scheme, secrets)
        case Unsigned():
            unsigned = Verified(NO_SECRET)
            return lambda incoming, now: unsigned
        case _:
            assert_never(scheme)


def check_secret(scheme: Scheme, secret: bytes) -> None:
    """Says at configuration time what `compile_scheme` would only refuse.

    Raises:
        ValueError: the secret cannot be a key of this scheme, as "expected …, got …". The message does not
        hold it.
    """
    match scheme:
        case Hmac():
            hmac_key(scheme, secret)
        case Standard():
            standard_key(secret)
        case Bearer():
            if not secret.strip():
                raise ValueError("expected a secret, got a blank one")
        case Unsigned():
            raise ValueError("expected no secret, because nothing is verified, got one")
        case _:
            assert_never(scheme)


def scheme_faults(scheme: Scheme, url: str = "") -> list[str]:
    """What is wrong with a description, as "field: expected …, got …"; empty if nothing is."""
    return hmac_faults(scheme, url) if isinstance(scheme, Hmac) else []


def signed_headers(scheme: Scheme) -> tuple[str, ...]:
    """The timestamp and signature headers: part of the dedup key where nothing serves as an id.

    A bearer token is not among them: the same delivery may be sent again under a new token.
    """
    match scheme:
        case Hmac():
            time = scheme.timestamp.header if scheme.timestamp is not None else ""
            return (time, scheme.header) if time else (scheme.header,)
        case Standard():
            return ("webhook-timestamp", "webhook-signature", "svix-timestamp", "svix-signature")
        case Bearer() | Unsigned():
            return ()
        case _:
            assert_never(scheme)
