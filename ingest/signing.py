"""Signs as a sender does: the other side of `ingest.verify`, for `headrace send` and for tests.

Promises: what `sign_as` returns passes a source of the same preset with the same secret and its default settings,
within the tolerance around `now`; what `sign_described` returns passes a source that verifies by that description. Both
are written against the providers' documentation, not against our verifiers.
"""

from __future__ import annotations

from events.errors import ConfigError
from ingest.drafts import Draft, Headers, Sent
from ingest.providers import PRESETS
from ingest.reading import did_you_mean
from ingest.signing_described import sign_described
from ingest.signing_senders import SENDERS

__all__ = ["SIGNABLE", "Draft", "Sent", "sign", "sign_as", "sign_described"]

SIGNABLE = tuple(preset for preset in PRESETS if preset in SENDERS)
"""The presets that `sign_as` can send as: those whose secret is shared with the sender."""

_JSON = ("Content-Type", "application/json")


def sign_as(preset: str, draft: Draft) -> Sent:
    """A delivery as a sender of a preset would send it. Some senders sign within the body, or add to the URL.

    Raises:
        ConfigError: no such preset, one that signs with a key that its provider alone has, or a secret or body that it
            cannot use.
    """
    if preset not in PRESETS:
        hint = did_you_mean(preset, SIGNABLE)
        raise ConfigError("signing", [f"preset: expected one of {', '.join(SIGNABLE)}, got {preset!r}{hint}"])
    if preset not in SENDERS:
        title = PRESETS[preset].title
        fault = f"preset: cannot sign as {title}: its private key is its own; expected one of {', '.join(SIGNABLE)}"
        raise ConfigError("signing", [fault])
    sent = SENDERS[preset](draft)
    if any(name.lower() == "content-type" for name, _ in sent.headers):
        return sent
    return Sent([_JSON, *sent.headers], sent.body, sent.query)


def sign(  # noqa: PLR0917 - one call per send, its arguments in the order of the command line
    preset: str, secret: str, event: str, delivery_id: str, body: bytes, now: float
) -> Headers:
    """The headers that a sender of a preset would put on a body that it leaves as it is. See `sign_as`.

    Raises:
        ConfigError: as `sign_as`, and where the sender would sign within the body.
    """
    sent = sign_as(preset, Draft(secret, event, delivery_id, body, now))
    if sent.body != body:
        raise ConfigError("signing", [f"preset: expected one that signs beside the body, got {preset!r}"])
    return sent.headers
