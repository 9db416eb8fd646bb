"""Several schemes for one source, any of which passes: senders that changed how they sign, or that let people choose.

Promises: all schemes share the source's secrets, each taking those that it can use. A key for signatures is never taken
for a token, where one of the schemes signs: a public one is no secret, and a secret one is not meant to travel. No
scheme lends another anything: a request passes if one of them alone lets it pass. Which one it was is not known when
deliveries are told apart, so at most one of them may cover more than the body: what another reads could be added to its
requests.
"""

from __future__ import annotations

from ingest.verify.base import (
    Covered,
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verifier,
    Wanted,
    body_or_address,
)

_KEYS = (b"whpk_", b"whsec_")
"""What keys for signatures begin with (Standard Webhooks)."""


class AnyOf(Description, frozen=True, tag_field="scheme", tag="anyof"):
    """The first that passes counts. Who passes none is told why, scheme by scheme."""

    schemes: tuple[Description, ...]

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        # A blank in the place of a key that a scheme must not use: verdicts speak of secrets by their index.
        verifiers = [
            scheme.compile([secret if self._may_use(scheme, secret) else b"" for secret in secrets], site)
            for scheme in self.schemes
        ]

        def verify(incoming: Incoming, now: float) -> Verification:
            reasons: list[str] = []
            wanted: Wanted | None = None
            for one in verifiers:
                match one(incoming, now):
                    case Refused(reason):
                        reasons.append(reason)
                    case Wanted() as verdict:
                        wanted = verdict
                    case verdict:
                        return verdict
            return wanted or Refused("; and ".join(reasons))

        return verify

    def check_secret(self, secret: bytes) -> None:
        faults: list[str] = []
        for scheme in self.schemes:
            if not self._may_use(scheme, secret):
                continue
            try:
                scheme.check_secret(secret)
            except ValueError as error:
                faults.append(str(error))
            else:
                return
        raise ValueError("; or ".join(faults))

    def _may_use(self, scheme: Description, secret: bytes) -> bool:
        if not secret.strip().startswith(_KEYS) or not _carries_secret(scheme):
            return True
        return all(map(_carries_secret, self.schemes))

    def faults(self, site: Site) -> list[str]:
        return [fault for scheme in self.schemes for fault in scheme.faults(site)]

    def covered(self) -> Covered:
        for scheme in self.schemes:
            if (covered := scheme.covered()) is not body_or_address:
                return covered
        return body_or_address

    def proof_headers(self) -> tuple[str, ...]:
        return tuple(name for scheme in self.schemes for name in scheme.proof_headers())

    def credentials(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        found = [scheme.credentials() for scheme in self.schemes]
        return tuple(name for one in found for name in one[0]), tuple(name for one in found for name in one[1])

    def summary(self) -> str:
        return ", or ".join(scheme.summary() for scheme in self.schemes)

    @property
    def secretless(self) -> bool:
        return all(scheme.secretless for scheme in self.schemes)


def _carries_secret(scheme: Description) -> bool:
    """Whether requests hold the secret itself."""
    return any(scheme.credentials())
