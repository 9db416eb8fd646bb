"""Signs as a sender does: the other side of `ingest.verify`, for `headrace send` and for tests.

Promises: what `sign` returns passes a source of the same preset with the same secret and its default
settings, within the tolerance around `now`. It is written against the providers' documentation, not against
our verifiers.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from events.errors import ConfigError
from ingest.reading import did_you_mean

SIGNABLE = ("github", "standard", "stripe", "generic", "none")
"""The presets that `sign` can send as."""


def sign(  # noqa: PLR0917 - one call per send, its arguments in the order of the command line
    preset: str, secret: str, event: str, delivery_id: str, body: bytes, now: float
) -> list[tuple[str, str]]:
    """The headers that a sender of a preset would put on a body.

    Args:
        secret: as the receiver's source has it (`whsec_…` for standard); unused by `none`.
        event: the event type. GitHub's header has what stands before the first full stop (`pull_request` of
            `pull_request.opened`); standard and stripe have theirs in the body, which is left as it is.
        delivery_id: unused by stripe, which has its own in the body, and by `none`.
        now: Unix seconds.

    Raises:
        ConfigError: no such preset, or a secret that it cannot use.
    """
    stamp = str(int(now))
    headers = [("Content-Type", "application/json")]
    match preset:
        case "github":
            headers += [
                ("X-GitHub-Event", event.partition(".")[0]),
                ("X-GitHub-Delivery", delivery_id),
                ("X-Hub-Signature-256", f"sha256={_hex(_text_key(secret), body)}"),
            ]
        case "standard":
            signed = b"%b.%b.%b" % (delivery_id.encode(), stamp.encode(), body)
            digest = hmac.digest(_standard_key(secret), signed, "sha256")
            headers += [
                ("webhook-id", delivery_id),
                ("webhook-timestamp", stamp),
                ("webhook-signature", f"v1,{base64.b64encode(digest).decode()}"),
            ]
        case "stripe":
            signature = _hex(_text_key(secret), stamp.encode() + b"." + body)
            headers.append(("Stripe-Signature", f"t={stamp},v1={signature}"))
        case "generic":
            headers += [
                ("X-Delivery-Id", delivery_id),
                ("X-Event-Type", event),
                ("X-Signature", _hex(_text_key(secret), body)),
            ]
        case "none":
            pass
        case _:
            hint = did_you_mean(preset, SIGNABLE)
            fault = f"preset: expected one of {', '.join(SIGNABLE)}, got {preset!r}{hint}"
            raise ConfigError("signing", [fault])
    return headers


def _hex(key: bytes, signed: bytes) -> str:
    return hmac.digest(key, signed, "sha256").hex()


def _text_key(secret: str) -> bytes:
    if not secret.strip():
        raise ConfigError("signing", ["secret: expected one, got a blank one"])
    return secret.encode()


def _standard_key(secret: str) -> bytes:
    text = secret.strip().removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ConfigError("signing", ["secret: expected whsec_ and base64, got something else"])
    return key
