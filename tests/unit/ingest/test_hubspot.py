"""HubSpot's signature version 3: its client signs, documented escapes are undone, the border of URL and body holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.verify.base import Refused, Site, Verified
from ingest.verify.hubspot import HubSpot
from tests.unit.ingest import vendors
from tests.unit.ingest.forgeries import Headers, assert_all_refused, forgeries
from tests.unit.ingest.requests import NOW, changed, request

URL = "https://hooks.example.com/in/crm"
SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
BODY = '[{"eventId":1,"subscriptionType":"contact.creation","propertyValue":"☸"}]'
STAMP = str(int(NOW * 1000))
NAMES = ("X-HubSpot-Signature-v3", "X-HubSpot-Request-Timestamp")
verify = HubSpot().compile([b"old", SECRET.encode()], Site(URL))


def headers(
    body: str = BODY, url: str = URL, stamp: str = STAMP, method: str = "POST", secret: str = SECRET
) -> Headers:
    signature = vendors.hubspot.Signature.get_signature(secret, body, "v3", url, method, stamp)
    return list(zip(NAMES, (signature, stamp), strict=True))


@given(st.text(st.characters(codec="utf-8")))
def test_what_the_client_signs_passes(text: str) -> None:
    body = f'[{{"x":"{text}"}}]'
    assert verify(request(body.encode(), *headers(body)), NOW) == Verified(1)


def test_the_documented_escapes_are_undone_and_no_others() -> None:
    escaped, signed = "q=%3a%2F%3f%40%21%24%27%28%29%2a%2C%3b%20%26%25", "q=:/?@!$'()*,;%20%26%25"
    incoming = request(BODY.encode(), *headers(url=f"{URL}?{signed}"), query=escaped.encode())
    assert verify(incoming, NOW) == Verified(1)
    whole = HubSpot().compile([SECRET.encode()], Site("https://hooks.example.com/in/a%2Fb"))
    assert whole(request(BODY.encode(), *headers(url="https://hooks.example.com/in/a/b")), NOW) == Verified(0)


def test_a_get_and_an_empty_body_pass() -> None:
    assert verify(request(b"", *headers("")), NOW) == Verified(1)
    got = request(b"", *headers("", f"{URL}?a=b", method="GET"), query=b"a=b", method="GET")
    assert verify(got, NOW) == Verified(1)


def test_damage_is_refused() -> None:
    good = headers()
    assert_all_refused(verify, forgeries(BODY.encode(), good, NAMES), NOW)
    body = BODY.encode()
    assert isinstance(verify(request(body, *good, method="PUT"), NOW), Refused)
    assert isinstance(verify(request(body, *good, query=b"a=b"), NOW), Refused)
    assert isinstance(verify(request(body, *headers(secret="another")), NOW), Refused)
    assert isinstance(verify(request(body, *headers(url=URL + "/")), NOW), Refused)


def test_times_beyond_five_minutes_are_refused() -> None:
    for seconds, good in ((299, True), (-299, True), (301, False), (-301, False)):
        stamp = str(int((NOW + seconds) * 1000))
        assert isinstance(verify(request(BODY.encode(), *headers(stamp=stamp)), NOW), Verified) is good
    for stamp in ("", "-1", "1.5", "☸", str(int(NOW))):
        assert isinstance(verify(request(BODY.encode(), *changed(headers(), NAMES[1], stamp)), NOW), Refused)


def test_the_border_between_url_and_body_cannot_be_moved() -> None:
    body = '[{"a":[{"b":1}]}]'
    good = headers(body, f"{URL}?a=1")
    assert verify(request(body.encode(), *good, query=b"a=1"), NOW) == Verified(1)
    for cut in (6, 7, 9):  # the rest begins with a bracket, a brace, neither
        moved = request(body[cut:].encode(), *good, query=f"a=1{body[:cut]}".encode())
        expected = "the body is not JSON from its first character, or the query looks like a body"
        assert verify(moved, NOW) == Refused(expected)
    moved = request(b"=1" + body.encode(), *good, query=b"a")
    assert isinstance(verify(moved, NOW), Refused)


@pytest.mark.parametrize("url", ["", "https://hooks.example.com/in/[x"])
def test_without_a_usable_url_everything_is_refused(url: str) -> None:
    assert HubSpot().faults(Site(url))[0].startswith("url: expected")
    verdict = HubSpot().compile([SECRET.encode()], Site(url))(request(BODY.encode(), *headers(url=url)), NOW)
    assert verdict == Refused("the source's public url is not usable")


def test_a_blank_secret_matches_nothing() -> None:
    blank = HubSpot().compile([b" "], Site(URL))
    assert blank(request(BODY.encode(), *headers(secret=" ")), NOW) == Refused("the source has no usable secret")
