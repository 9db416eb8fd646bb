"""Where nothing serves as an id: a repetition is known again, whatever it changes that is not signed."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

import pytest

from events.types import Receipt
from ingest.catalogue import Source
from ingest.compiled import CompiledSource, compile_source
from ingest.drafts import Sent
from ingest.parsing import parse_source
from ingest.providers import PRESETS
from ingest.receipt import Arrival, receipt_of
from ingest.signing import Draft, sign_as
from ingest.verify.anyof import AnyOf
from ingest.verify.base import Incoming, Refused, Verified, Wanted, body_or_address, of_either
from ingest.verify.mac import Hmac, Timestamp
from tests.unit.ingest.requests import NOW, changed, request
from tests.unit.ingest.senders import PLAYERS, URL, arrived

Headers = Sequence[tuple[str, str]]


def hashing(preset: str, **more: object) -> CompiledSource:
    secret = PLAYERS[preset].secret
    definition = parse_source({"source": "test", "preset": preset, "secrets": [secret], "id": "hash", **more})
    return compile_source(definition, [secret.encode()], public_url="https://hooks.example.com")


def made(preset: str, body: bytes, url: str = URL) -> Sent:
    return sign_as(preset, Draft(PLAYERS[preset].secret, "order.paid", "msg_1", body, NOW, url))


def key(source: CompiledSource, incoming: Incoming) -> bytes:
    assert isinstance(source.verify(incoming, NOW), Verified), incoming
    identity = source.identify(incoming)
    assert identity.delivery_id is None
    return identity.key


@pytest.mark.parametrize(
    ("preset", "header", "change"),
    [
        ("stripe", "Stripe-Signature", "{},v1=00"),
        ("stripe", "Stripe-Signature", "v0=x,{}"),
        ("stripe", "Stripe-Signature", "{},"),
        ("paddle", "Paddle-Signature", "{};h1=00"),
        ("pagerduty", "X-PagerDuty-Signature", "v2=0,{}"),
        ("standard", "webhook-signature", "{} v1,AAAA"),
        ("shopify", "X-Shopify-Hmac-SHA256", "{}"),
    ],
)
def test_another_signature_beside_the_good_one_makes_nothing_new(preset: str, header: str, change: str) -> None:
    source, one = hashing(preset), made(preset, b'{"a":1}')
    value = dict(one.headers)[header]
    junk: Headers = [*changed(one.headers, header, change.format(value)), ("X-Any", "1"), ("svix-timestamp", "1")]
    assert key(source, arrived(one, junk)) == key(source, arrived(one))
    other = made(preset, b'{"a":2}')
    assert key(source, arrived(other)) != key(source, arrived(one))


@pytest.mark.parametrize("preset", ["stripe", "paddle", "slack", "zoom", "standard", "hubspot"])
def test_the_time_that_is_signed_tells_deliveries_apart(preset: str) -> None:
    source = hashing(preset)
    later = sign_as(preset, Draft(PLAYERS[preset].secret, "order.paid", "msg_1", b"{}", NOW + 1, URL))
    assert key(source, arrived(later)) != key(source, arrived(made(preset, b"{}")))


def test_two_secrets_that_sign_the_same_make_one_delivery() -> None:
    definition = parse_source({"source": "test", "preset": "github", "secrets": ["a", "b"], "id": "hash"})
    source = compile_source(definition, [b"a", b"b"])
    keys = {key(source, arrived(sign_as("github", Draft(one, "x", "1", b"{}", NOW, "")))) for one in ("a", "b")}
    assert len(keys) == 1


FORM = ("content-type", "application/x-www-form-urlencoded")


def test_what_twilio_does_not_sign_makes_nothing_new() -> None:
    source, one = hashing("twilio"), made("twilio", b"A=1&B=x+y&C=")
    good = key(source, arrived(one))
    for body in (b"B=x+y&A=1&C=", b"A=1&B=x%20y&C", b"&A=1&&B=x+y&C=", b"A=1&A=1&B=x+y&C="):
        assert key(source, arrived(one, body=body)) == good
    assert key(source, arrived(made("twilio", b"A=2&B=x+y&C="))) != good


def test_a_twilio_request_without_parameters_is_one_delivery_by_any_method() -> None:
    source, one = hashing("twilio"), made("twilio", b"", URL)
    signature = ("X-Twilio-Signature", dict(one.headers)["X-Twilio-Signature"])
    requests = [request(b"", signature, method=method) for method in ("GET", "POST")]
    requests.append(request(b"&", signature, FORM))
    assert len({key(source, one) for one in requests}) == 1


def test_an_escape_that_hubspot_undoes_makes_nothing_new() -> None:
    covered = PRESETS["hubspot"].scheme.covered()
    stamp = ("X-HubSpot-Request-Timestamp", "1")
    one, again, other = (request(b"{}", stamp, query=query) for query in (b"a=%3A", b"a=:", b"a=%25"))
    assert covered(one) == covered(again)
    assert covered(one) != covered(other)
    assert covered(one) != covered(request(b"{}", stamp, query=b"a=:", method="PUT"))


def test_every_part_that_a_description_signs_tells_deliveries_apart() -> None:
    scheme = Hmac(
        header="X-S",
        signed="{method} {path} {query} {id}.{timestamp}.{body}",
        timestamp=Timestamp("X-T"),
        id_header="X-Id",
    )
    covered = scheme.covered()
    base = {b"x-s": b"s", b"x-t": b"1", b"x-id": b"i"}
    several = [
        Incoming("POST", "/in/a", b"q", base, b"b"),
        Incoming("PUT", "/in/a", b"q", base, b"b"),
        Incoming("POST", "/in/b", b"q", base, b"b"),
        Incoming("POST", "/in/a", b"r", base, b"b"),
        Incoming("POST", "/in/a", b"q", base | {b"x-t": b"2"}, b"b"),
        Incoming("POST", "/in/a", b"q", base | {b"x-id": b"j"}, b"b"),
        Incoming("POST", "/in/a", b"q", base, b"c"),
    ]
    assert len({tuple(covered(one)) for one in several}) == len(several)
    assert covered(several[0]) == covered(Incoming("POST", "/in/a", b"q", base | {b"x-s": b"t", b"x": b"y"}, b"b"))
    covered(Incoming("", "", b"", {}, b""))
    with_url = Hmac(header="X-S", signed="{url}{body}").covered()
    assert with_url(request(b"{}", query=b"a")) != with_url(request(b"{}", query=b"b"))


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if isinstance(preset.scheme, AnyOf)])
def test_of_several_schemes_one_at_most_covers_more_than_the_body(name: str) -> None:
    scheme = PRESETS[name].scheme
    assert isinstance(scheme, AnyOf)
    assert len([one for one in scheme.schemes if one.covered() is not body_or_address]) <= 1


def kept(source: CompiledSource, body: bytes, plain: bytes, headers: Headers) -> Receipt:
    """What is made of a request by the same steps as at the door."""
    incoming, decoded = request(body, *headers), request(plain, *headers)
    incoming = decoded if body == plain else incoming
    verdict = source.verify(decoded, NOW)
    if isinstance(verdict, Refused):
        verdict = of_either(verdict, source.verify(incoming, NOW))
    assert isinstance(verdict, Verified)
    return receipt_of(Arrival(Source(1, 1, "test", source), incoming, decoded, [], NOW, None), verdict)


def by_github(body: bytes) -> Headers:
    return sign_as("github", Draft(PLAYERS["github"].secret, "x", "1", body, NOW, "")).headers


@pytest.mark.parametrize("split", [None, {"pointer": ""}])
def test_whoever_takes_the_encoding_off_makes_nothing_new(split: dict[str, str] | None) -> None:
    source = hashing("github") if split is None else hashing("github", split=split)
    plain = b'[{"a":1},{"a":2}]'
    packed = gzip.compress(plain)
    coding = ("content-encoding", "gzip")
    over_packed = kept(source, packed, plain, [*by_github(packed), coding])
    assert kept(source, packed, packed, by_github(packed)).key == over_packed.key
    assert over_packed.body == packed
    over_plain = kept(source, packed, plain, [*by_github(plain), coding])
    again = gzip.compress(plain, 1)
    assert again != packed
    assert kept(source, again, plain, [*by_github(plain), coding]).key == over_plain.key
    assert kept(source, plain, plain, by_github(plain)).key == over_plain.key


def test_an_id_is_the_key_whatever_is_signed() -> None:
    source = compile_source(parse_source({"source": "test", "preset": "github", "secrets": ["s"]}), [b"s"])
    packed = gzip.compress(b"{}")
    headers = [*sign_as("github", Draft("s", "x", "1", packed, NOW, "")).headers, ("content-encoding", "gzip")]
    assert kept(source, packed, b"{}", headers).key == source.identify(request(b"", *headers)).key


def test_the_reason_is_that_of_the_decoded_body() -> None:
    assert of_either(Refused("plain"), Refused("coded")) == Refused("plain")
    assert of_either(Refused("plain"), Verified(1)) == Verified(1, coded=True)
    assert of_either(Refused("plain"), Wanted("https://a")) == Wanted("https://a")
