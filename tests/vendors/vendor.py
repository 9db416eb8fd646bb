"""What a vendor is to the contract in `test_contract.py`: how it signs, who judges that, and what ours must say.

Promises: `ours` asks the preset as ingest does; `cases` makes of one genuine delivery all that must not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography.x509 import Certificate

from ingest.providers import PRESETS
from ingest.verify.base import Incoming, Site, Verification, headers_of

URL = "https://hooks.example.com/in/shop"
SECRET = "It's a Secret to Everybody"
OTHER = "It's another Secret altogether"

BODIES: Mapping[str, bytes] = {
    "plain": b'{"id":"evt_1","type":"order.paid"}',
    "unicode": '{"id":"evt_1","text":"Žluťoučký kůň 🐎 \\u20ac"}'.encode(),
    "not JSON": b"id=evt_1&type=order.paid",
    "empty": b"",
}
MARGIN = 0.1
"""The part of the tolerance that lies between a limit of age and what is tried on either side of it: for five minutes
far more than a test takes, for the SDKs that look at the clock.
"""


@dataclass(frozen=True)
class Delivery:
    """A request on its way. `url` has the query that was sent with it."""

    headers: tuple[tuple[str, str], ...]
    body: bytes
    url: str = URL
    method: str = "POST"

    def seen(self) -> dict[str, str]:
        """The headers as a framework hands them to an SDK: names in lower case, repeated ones joined."""
        seen: dict[str, str] = {}
        for name, value in self.headers:
            key = name.lower()
            seen[key] = f"{seen[key]}, {value}" if key in seen else value
        return seen


@dataclass(frozen=True)
class OnNode:
    """The judge of this name in `node/judge.mjs`. `certificate` is a PEM, for who would fetch one."""

    judge: str
    certificate: str = ""


Accepts = Callable[[Delivery], bool]


def both(body: bytes) -> list[bytes]:
    """Two ways to alter a body that is signed as it is."""
    return [body.replace(b"evt_1", b"evt_2"), body + b" "]


@dataclass(frozen=True)
class Vendor:
    """One way in which one provider signs.

    Args:
        name: the preset's, and after a slash which of its ways.
        sign: (body, Unix seconds, secret) to a delivery; with the SDK where it can, else by documentation.
        accepts: the SDK's verdict with the right secret, by answer or exception; None: there is no SDK that tells.
        pasted: what Headrace is given where it is not the secret that signs, but its public key.
        proofs: headers without which nothing passes.
        tolerance: seconds that we allow a timestamp to be away from now, both ways; None: no age is checked.
        timed: whether a time is signed all the same.
        altered: from a body as it was sent to bodies that must not pass in its place; none where it is not signed.
        quarrels: by case, why the SDK's verdict is not ours. Every one is checked to be there.
    """

    name: str
    sign: Callable[[bytes, float, str], Delivery]
    accepts: Accepts | OnNode | None = None
    secret: str = SECRET
    other: str = OTHER
    pasted: str = ""
    bodies: Mapping[str, bytes] = field(default_factory=lambda: BODIES)
    proofs: tuple[str, ...] = ()
    tolerance: float | None = None
    timed: bool = False
    altered: Callable[[bytes], list[bytes]] = both
    quarrels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    certificates: Mapping[str, Certificate] = field(default_factory=dict)

    @property
    def preset(self) -> str:
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Case:
    """A delivery and whether it must pass."""

    name: str
    delivery: Delivery
    passes: bool


def ours(vendor: Vendor, delivery: Delivery, now: float) -> Verification:
    """What the preset says, compiled as for a source at `URL`."""
    secrets = [] if vendor.certificates else [(vendor.pasted or vendor.secret).encode()]
    site = Site(url=URL, options=vendor.options, certificates=vendor.certificates)
    raw = [(name.lower().encode(), value.encode()) for name, value in delivery.headers]
    sent = urlsplit(delivery.url)
    incoming = Incoming(delivery.method, sent.path, sent.query.encode(), headers_of(raw), delivery.body)
    return PRESETS[vendor.preset].scheme.compile(secrets, site)(incoming, now)


def cases(vendor: Vendor, now: float) -> Iterator[Case]:
    """The whole matrix for one vendor."""
    for kind, body in vendor.bodies.items():
        yield Case(f"genuine, {kind}", vendor.sign(body, now, vendor.secret), True)
    body = next(iter(vendor.bodies.values()))
    genuine = vendor.sign(body, now, vendor.secret)
    forged = vendor.sign(body, now, vendor.other)
    yield Case("another secret", forged, False)
    for number, other in enumerate(vendor.altered(genuine.body), 1):
        assert other != genuine.body, f"{vendor.name}: alteration {number} alters nothing"
        yield Case(f"altered body {number}", replace(genuine, body=other), False)
    for proof in vendor.proofs:
        yield from _tampered(proof, genuine, forged)
    if vendor.tolerance is not None:
        for name, limit in (("old", -vendor.tolerance), ("ahead", vendor.tolerance)):
            yield Case(f"too {name}", vendor.sign(body, now + limit * (1 + MARGIN), vendor.secret), False)
            yield Case(f"almost too {name}", vendor.sign(body, now + limit * (1 - MARGIN), vendor.secret), True)
    if vendor.timed or vendor.tolerance is not None:
        yield Case("another time", _restamped(genuine, now), False)


def _tampered(proof: str, genuine: Delivery, forged: Delivery) -> Iterator[Case]:
    """What can be done to one header that proves something, at the least its absence."""
    (value,) = [value for name, value in genuine.headers if name.lower() == proof.lower()]
    (other,) = [value for name, value in forged.headers if name.lower() == proof.lower()]
    rest = tuple(header for header in genuine.headers if header[0].lower() != proof.lower())
    forms: dict[str, tuple[str, ...]] = {
        "no": (),
        "an empty": ("",),
        "a cut": (value[:-3],),
        "twice the same": (value, value),
        "a repeated": (value, "x"),
        "a slightly other": (_nudged(value),),
    }
    if other != value:
        forms["a forged and then the"] = (other, value)
        forms["the, then a forged"] = (value, other)
    for form, values in forms.items():
        headers = (*rest, *((proof, given) for given in values))
        yield Case(f"{form} {proof}", replace(genuine, headers=headers), False)


def _nudged(value: str) -> str:
    middle = len(value) // 2
    return value[:middle] + ("0" if value[middle] != "0" else "1") + value[middle + 1 :]


def _restamped(genuine: Delivery, now: float) -> Delivery:
    """The delivery with a time one second earlier, wherever and however it is told."""
    earlier = now - 1
    told = {str(int(now)): str(int(earlier)), iso(now): iso(earlier)}
    headers = genuine.headers
    for old, new in told.items():
        headers = tuple((name, value.replace(old, new)) for name, value in headers)
    body = genuine.body.replace(str(int(now)).encode(), str(int(earlier)).encode())
    assert (headers, body) != (genuine.headers, genuine.body), "expected a time in the delivery, got none"
    return replace(genuine, headers=headers, body=body)


def iso(seconds: float) -> str:
    """A time as Zendesk and PayPal write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
