"""What every signature scheme stands on: the request as it came, the two verdicts, the checks that all share.

Promises: nothing here raises for anything that a sender can put into a request, and whatever is missing,
repeated or malformed is a `Refused`. A header that came more than once is never read as if it had come once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from cryptography.x509 import Certificate

NO_SECRET = -1
"""`Verified.secret` where a source has no secret to match (the preset `none`)."""

TOLERANCE = 300.0
"""How far a timestamp may be from now, both ways, in seconds: the default of Standard Webhooks and Stripe."""

MOST_SIGNATURES = 16
"""How many signatures of one request are tried. Rotation needs two; a header full of them is a way to burn
our CPU.
"""


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """A request as it came. `headers`: see `headers_of`. `path` and `query` (without `?`) are undecoded.

    `peer` is the address of whoever sent it, behind the proxies that we trust.
    """

    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    peer: str = ""


class Verified(msgspec.Struct, frozen=True):
    """The request is authentic: the secret at index `secret` of the source's list matched, or `NO_SECRET`.

    `nonce` is what may be seen only once, where a sender signs a token and not the body. `coded`: it is authentic only
    with its body as it came, in its Content-Encoding, so that is what the signature covers.
    """

    secret: int
    nonce: bytes | None = None
    coded: bool = False


class Refused(msgspec.Struct, frozen=True):
    """The request is not authentic. `reason` is short and holds no secret and no expected signature."""

    reason: str


class Wanted(msgspec.Struct, frozen=True):
    """The verdict needs the certificate at `url`, which lies on a host that the scheme pins. Fetch it, ask again."""

    url: str


Verification = Verified | Refused | Wanted


def of_either(plain: Refused, coded: Verification) -> Verification:
    """The verdict on a request whose body has a Content-Encoding: without it, the body was refused.

    Args:
        coded: the verdict on the request as it came.
    """
    match coded:
        case Verified():
            return msgspec.structs.replace(coded, coded=True)
        case Refused():
            return plain
        case Wanted():
            return coded


Verifier = Callable[[Incoming, float], Verification]
"""A scheme compiled with its secrets: (request, Unix seconds now) to a verdict."""


Covered = Callable[[Incoming], Sequence[bytes]]
"""What of a request that passed a scheme tells it from another; see `Description.covered`."""


def body_or_address(incoming: Incoming) -> tuple[bytes, ...]:
    """What tells requests apart of which nothing is signed, or the body alone: without a body, method and query do,
    or all would be repetitions of the first.
    """
    if incoming.body or (incoming.method == "POST" and not incoming.query):
        return (b"hash", incoming.body)
    return (b"bare", incoming.method.encode("utf-8", "backslashreplace"), incoming.query)


class Site(msgspec.Struct, frozen=True):
    """What a scheme is compiled with beside its secrets.

    Args:
        url: the source's public URL as the sender knows it, without a query; empty if it is not known.
        options: what the preset asks for beside secrets, for example PayPal's webhook id; see `Preset.options`.
        certificates: by URL, those that were fetched so far; it grows while the source is in use.
    """

    url: str = ""
    options: Mapping[str, str] = {}
    certificates: Mapping[str, Certificate] = {}


class Description(msgspec.Struct, frozen=True):
    """The base of all schemes: plain data that says how a sender signs, and compiles to a `Verifier`."""

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        """The verifier of one source. It never raises: what cannot verify is `refuse_all`."""
        raise NotImplementedError

    def check_secret(self, secret: bytes) -> None:
        """Says at configuration time what `compile` would only refuse.

        Raises:
            ValueError: the secret cannot be a key of this scheme, as "expected …, got …", without the secret.
        """
        if not secret.strip():
            raise ValueError("expected a secret, got a blank one")

    def faults(self, site: Site) -> list[str]:
        """What is wrong with the description or its site, as "field: expected …, got …"; empty if nothing is."""
        return []

    def covered(self) -> Covered:
        """What stands for a verified request where nothing serves as an id: two are one delivery if it is equal.

        It holds what the scheme authenticates (body, time, address, id) and no more: whatever else a repetition may
        change without being refused, the spelling of a signature or another one beside it, must not make it look new.
        The function never raises, also for an item of a batch, which nobody signed by itself.
        """
        return body_or_address

    def proof_headers(self) -> tuple[str, ...]:
        """The headers that verification reads: they are kept as they came, so that it can be done again."""
        return ()

    def credentials(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of headers, and of query parameters, whose values are secrets and must not be kept."""
        return ((), ())

    def summary(self) -> str:
        """How it verifies, for people, in a few words."""
        return type(self).__name__

    @property
    def secretless(self) -> bool:
        """Whether the scheme works without any secret (public certificates, addresses, nothing at all)."""
        return False


def headers_of(raw: list[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    """ASGI's header list (names in lower case, as ASGI has it) as a mapping.

    The values of a repeated name are joined with a line feed, which no HTTP header value can hold: so neither
    the first nor the last of them is believed, and `only` can tell that there were several.
    """
    headers = dict(raw)
    if len(headers) == len(raw):
        return headers
    joined: dict[bytes, bytes] = {}
    for name, value in raw:
        joined[name] = joined[name] + b"\n" + value if name in joined else value
    return joined


def only(headers: Mapping[bytes, bytes], name: bytes) -> bytes | Refused:
    """The one, non-empty value of a header. `name` is in lower case."""
    value = headers.get(name)
    if not value:
        return Refused(f"header {name.decode()} is missing")
    if b"\n" in value:
        return Refused(f"header {name.decode()} came more than once")
    return value


def check_age(stamp: bytes, per_second: int, tolerance: float, now: float) -> Refused | None:
    """None where a timestamp is fresh.

    Args:
        stamp: digits only; signs, fractions and spaces are refused.
        per_second: 1 for seconds, 1000 for milliseconds.
        tolerance: seconds, both ways.
        now: Unix seconds.
    """
    if not stamp.isdigit() or len(stamp) > 16:
        return Refused("the timestamp is not a whole number")
    age = now - int(stamp) / per_second
    if -tolerance <= age <= tolerance:
        return None
    side = "old" if age > 0 else "ahead"
    return Refused(f"the timestamp is {abs(age):.0f} s {side}; at most {tolerance:g} s are accepted")


def refuse_all(reason: str) -> Verifier:
    """What a source that cannot verify compiles to: it fails closed, and the other sources go on."""
    refused = Refused(reason)

    def verify(incoming: Incoming, now: float) -> Verification:
        return refused

    return verify
