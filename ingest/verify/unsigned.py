"""No verification at all: whoever knows the address can post. The console says so, loudly."""

from __future__ import annotations

from ingest.verify.base import NO_SECRET, Description, Incoming, Site, Verification, Verified, Verifier


class Unsigned(Description, frozen=True, tag_field="scheme", tag="none"):
    """Everything passes. A source may still say from which `addresses` it takes anything."""

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        unsigned = Verified(NO_SECRET)

        def verify(incoming: Incoming, now: float) -> Verification:
            return unsigned

        return verify

    def check_secret(self, secret: bytes) -> None:
        raise ValueError("expected no secret, because nothing is verified, got one")

    def summary(self) -> str:
        return "nothing is verified"

    @property
    def secretless(self) -> bool:
        return True
