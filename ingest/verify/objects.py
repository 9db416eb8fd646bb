"""A scheme for senders whose handshake signs, for anyone who asks, with the key that signs deliveries (X's CRC).

Promises: what the handshake signs can never be passed off as a delivery. A delivery is a JSON object, and begins with a
brace; `ingest.handshakes` signs no text that holds one.
"""

from __future__ import annotations

from ingest.verify.base import Covered, Description, Incoming, Refused, Site, Verification, Verifier
from ingest.verify.mac import Hmac


class Objects(Description, frozen=True, tag_field="scheme", tag="objects"):
    """What `inner` says, and only JSON objects."""

    inner: Hmac

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        inner = self.inner.compile(secrets, site)

        def verify(incoming: Incoming, now: float) -> Verification:
            if incoming.body[:1] != b"{":
                return Refused("the body is not a JSON object from its first character")
            return inner(incoming, now)

        return verify

    def check_secret(self, secret: bytes) -> None:
        self.inner.check_secret(secret)

    def faults(self, site: Site) -> list[str]:
        return self.inner.faults(site)

    def covered(self) -> Covered:
        return self.inner.covered()

    def proof_headers(self) -> tuple[str, ...]:
        return self.inner.proof_headers()

    def summary(self) -> str:
        return self.inner.summary()
