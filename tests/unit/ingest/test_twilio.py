"""Twilio against its own SDK: what the SDK signs passes, forms, JSON and GET, with and without a port."""

from __future__ import annotations

import tracemalloc
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.verify.base import Refused, Site, Verified
from ingest.verify.twilio import MOST_BYTES, MOST_PARAMETERS, Twilio
from tests.unit.ingest import vendors
from tests.unit.ingest.forgeries import assert_all_refused, forgeries
from tests.unit.ingest.requests import NOW, request

URL = "https://hooks.example.com/in/calls"
TOKEN = "12345"
FORM = ("content-type", "application/x-www-form-urlencoded; charset=UTF-8")
SMS = {"MessageSid": "SM1", "Body": "Grüße + ☸ & mehr", "From": "+49151", "Empty": "", "NumMedia": "0"}
verify = Twilio().compile([b"old", TOKEN.encode()], Site(URL))


def sdk_signature(url: str, parameters: Any, algorithm: str | None = None) -> str:
    return str(vendors.twilio.RequestValidator(TOKEN).compute_signature(url, parameters, algorithm))


def signed(signature: str) -> tuple[str, str]:
    return ("X-Twilio-Signature", signature)


def test_the_example_of_twilios_documentation_passes() -> None:
    url = "https://mycompany.com/myapp.php"
    parameters = {
        "Digits": "1234",
        "To": "+18005551212",
        "From": "+14158675309",
        "Caller": "+14158675309",
        "CallSid": "CA1234567890ABCDE",
    }
    incoming = request(
        urlencode(parameters).encode(), FORM, signed("RSOYDt4T1cUTdK1PDd93/VVr8B8="), query=b"foo=1&bar=2"
    )
    assert Twilio().compile([b"12345"], Site(url))(incoming, NOW) == Verified(0)


@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8"), max_size=8), st.text(st.characters(codec="utf-8"), max_size=8)),
        max_size=8,
    )
)
def test_any_form_that_the_sdk_signs_passes(pairs: list[tuple[str, str]]) -> None:
    several: dict[str, list[str]] = {}
    for name, value in pairs:
        several.setdefault(name, []).append(value)

    class Several(dict[str, list[str]]):
        def getlist(self, name: str) -> list[str]:
            return self[name]

    signature = sdk_signature(URL, Several(several))
    incoming = request(urlencode(pairs).encode(), FORM, signed(signature))
    assert verify(incoming, NOW) == Verified(1)


@pytest.mark.parametrize("url", [URL, "https://hooks.example.com:443/in/calls"])
@pytest.mark.parametrize("configured", [URL, "https://hooks.example.com:443/in/calls"])
def test_the_port_may_be_signed_or_not(url: str, configured: str) -> None:
    incoming = request(urlencode(SMS).encode(), FORM, signed(sdk_signature(url, SMS)))
    assert Twilio().compile([TOKEN.encode()], Site(configured))(incoming, NOW) == Verified(0)


def test_a_port_that_is_not_the_schemes_may_be_signed_or_not() -> None:
    ours = Twilio().compile([TOKEN.encode()], Site("http://[::1]:8080/in/calls"))
    for url in ("http://[::1]:8080/in/calls", "http://[::1]/in/calls"):
        assert ours(request(b"", signed(sdk_signature(url, {}))), NOW) == Verified(0)
    assert isinstance(ours(request(b"", signed(sdk_signature("http://[::1]:80/in/calls", {}))), NOW), Refused)


def test_a_get_is_signed_by_its_url() -> None:
    query = "MessageSid=SM1&Body=a%20b"
    incoming = request(b"", signed(sdk_signature(f"{URL}?{query}", {})), query=query.encode(), method="GET")
    assert verify(incoming, NOW) == Verified(1)
    altered = request(b"", signed(sdk_signature(f"{URL}?{query}", {})), query=b"MessageSid=SM2", method="GET")
    assert isinstance(verify(altered, NOW), Refused)


JSON = '{"status":"☸"}'.encode()
HASHED = "bodySHA256=" + sha256(JSON).hexdigest()
JSON_SIGNATURE = signed(sdk_signature(f"{URL}?{HASHED}", {}))


def test_json_passes_by_the_hash_in_the_url_as_the_sdk_has_it() -> None:
    kind = ("content-type", "application/json")
    assert verify(request(JSON, kind, JSON_SIGNATURE, query=HASHED.encode()), NOW) == Verified(1)
    assert vendors.twilio.RequestValidator(TOKEN).validate(f"{URL}?{HASHED}", JSON.decode(), JSON_SIGNATURE[1])


@pytest.mark.parametrize(
    ("body", "query", "kind"),
    [
        (JSON + b" ", HASHED, "application/json"),
        (b"", HASHED, "application/json"),
        (b"", HASHED, "application/x-www-form-urlencoded"),
        (b"a=b", HASHED, "application/x-www-form-urlencoded"),
        (JSON, HASHED + "&" + HASHED, "application/json"),
        (JSON, "", "application/json"),
    ],
)
def test_a_body_other_than_the_hashed_one_is_refused_whatever_it_says_it_is(body: bytes, query: str, kind: str) -> None:
    url = f"{URL}?{query}" if query else URL
    incoming = request(body, ("content-type", kind), signed(sdk_signature(url, {})), query=query.encode())
    assert isinstance(verify(incoming, NOW), Refused)


def test_a_body_that_nothing_signs_is_refused() -> None:
    bare = signed(sdk_signature(URL, {}))
    assert verify(request(b"", bare), NOW) == Verified(1)
    for kind in ("application/json", "text/plain", "multipart/form-data; boundary=x", ""):
        verdict = verify(request(b"a=b", ("content-type", kind), bare), NOW)
        assert verdict == Refused("the body is neither a form nor hashed in the URL, so nothing signs it")


def test_the_settings_header_chooses_the_algorithm_of_the_shared_key() -> None:
    settings = ("X-Twilio-Webhooks-Signature-Settings", "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256")
    body = urlencode(SMS).encode()
    incoming = request(body, FORM, settings, signed(sdk_signature(URL, SMS, "HMAC_SHA256")))
    assert verify(incoming, NOW) == Verified(1)
    sha1 = signed(sdk_signature(URL, SMS))
    assert isinstance(verify(request(body, FORM, settings, sha1), NOW), Refused)
    assert isinstance(verify(request(body, FORM, settings, settings, sha1), NOW), Refused)
    for other in ("algorithm=HMAC_MD5", "algorithm=", "algorithm=☸"):
        verdict = verify(request(body, FORM, (settings[0], other), sha1), NOW)
        assert verdict == Refused("the signature's algorithm is not supported")


def test_damage_is_refused() -> None:
    body, headers = urlencode(SMS).encode(), [FORM, signed(sdk_signature(URL, SMS))]
    assert verify(request(body, *headers), NOW) == Verified(1)
    assert_all_refused(verify, forgeries(body, headers, ["X-Twilio-Signature"]), NOW)
    assert isinstance(Twilio().compile([b"another"], Site(URL))(request(body, *headers), NOW), Refused)
    assert isinstance(verify(request(body, *headers, query=b"a=b"), NOW), Refused)
    elsewhere = Twilio().compile([TOKEN.encode()], Site(URL + "2"))
    assert isinstance(elsewhere(request(body, *headers), NOW), Refused)


def test_a_form_of_too_many_parameters_or_of_none_that_can_be_read_is_refused() -> None:
    many = "&".join(["a=b"] * (MOST_PARAMETERS + 1))
    expected = Refused("the parameters cannot be read")
    assert verify(request(many.encode(), FORM, signed("x")), NOW) == expected
    assert verify(request("a=ß".encode(), FORM, signed("x")), NOW) == expected
    assert verify(request(b"", signed("x"), query=many.encode()), NOW) == expected


def test_a_stranger_s_form_costs_little_however_it_is_written() -> None:
    for text in (b"%", b"%41", b"&", b"a=%&"):
        body = (b"a=" + text * MOST_BYTES)[:MOST_BYTES]
        tracemalloc.start()
        verdict = verify(request(body, FORM, signed("x")), NOW)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert isinstance(verdict, Refused)
        assert peak < 24 * MOST_BYTES, text
        more = verify(request(body + b"&", FORM, signed("x")), NOW)
        assert more == Refused(f"the form has {MOST_BYTES + 1} bytes; at most {MOST_BYTES} are accepted")


def test_a_body_that_is_hashed_in_the_url_may_be_longer_than_a_form() -> None:
    body = b" " * (MOST_BYTES + 1)
    query = "bodySHA256=" + sha256(body).hexdigest()
    incoming = request(body, FORM, signed(sdk_signature(f"{URL}?{query}", {})), query=query.encode())
    assert verify(incoming, NOW) == Verified(1)


def test_what_is_no_escape_is_signed_as_it_stands() -> None:
    incoming = request(b"a=%zz%4&b=%&%e2%98%b8=+", FORM, signed(sdk_signature(URL, {"a": "%zz%4", "b": "%", "☸": " "})))
    assert verify(incoming, NOW) == Verified(1)


@pytest.mark.parametrize("url", ["", "hooks.example.com/in/x", "https://", "https://h:x/in/x", "https://h/in?x=1"])
def test_without_a_usable_url_everything_is_refused_and_the_fault_is_named(url: str) -> None:
    assert Twilio().faults(Site(url))[0].startswith("url: expected")
    verdict = Twilio().compile([TOKEN.encode()], Site(url))(request(b"", signed(sdk_signature(url, {}))), NOW)
    assert verdict == Refused("the source's public url is not usable")


def test_a_blank_secret_matches_nothing() -> None:
    assert Twilio().compile([b" "], Site(URL))(request(b""), NOW) == Refused("the source has no usable secret")
    with pytest.raises(ValueError, match="blank"):
        Twilio().check_secret(b" ")
