"""Basic, API keys, several schemes at once and lists of addresses: each lets in no one else."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from ingest.providers import PRESETS
from ingest.verify.addresses import network_of, within_addresses
from ingest.verify.anyof import AnyOf
from ingest.verify.schemes import (
    ApiKey,
    Basic,
    Bearer,
    Hmac,
    Incoming,
    Refused,
    Site,
    Standard,
    Unsigned,
    Verified,
)
from tests.unit.ingest.requests import NOW, WHSEC, compile_scheme, request


def basic(text: str, word: str = "Basic") -> tuple[str, str]:
    return ("Authorization", f"{word} {base64.b64encode(text.encode()).decode()}")


@pytest.mark.parametrize("word", ["Basic", "basic", "BASIC", "Basic "])
def test_user_and_password_pass_together(word: str) -> None:
    verify = compile_scheme(Basic(), [b"a:b", "ümit:p:ä ss".encode()])
    assert verify(request(b"", basic("ümit:p:ä ss", word)), NOW) == Verified(1)


def test_the_example_of_rfc_7617_passes() -> None:
    header = ("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    assert compile_scheme(Basic(), [b"Aladdin:open sesame"])(request(b"", header), NOW) == Verified(0)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !",
        "Basic user:password",
        "BasicdXNlcjpwYXNzd29yZA==",
        "Bearer dXNlcjpwYXNzd29yZA==",
        "dXNlcjpwYXNzd29yZA==",
        *(basic(text)[1] for text in ("user:passwor", "user:password2", "User:password", "user:", ":password", "user")),
        "é",
    ],
)
def test_any_other_user_or_password_is_refused(value: str) -> None:
    verify = compile_scheme(Basic(), [b"user:password"])
    assert isinstance(verify(request(b"", ("Authorization", value)), NOW), Refused)


def test_basic_twice_is_refused() -> None:
    verify = compile_scheme(Basic(), [b"user:password"])
    assert isinstance(verify(request(b"", basic("user:password"), basic("user:password")), NOW), Refused)


@pytest.mark.parametrize("secret", [b"", b":", b"user", b"user:", b":password", b" : "])
def test_what_is_no_user_and_password_is_said_and_matches_nothing(secret: bytes) -> None:
    with pytest.raises(ValueError, match="expected user:password"):
        Basic().check_secret(secret)
    verdict = compile_scheme(Basic(), [secret])(request(b"", basic(secret.decode())), NOW)
    assert verdict == Refused("the source has no usable secret")


def test_a_key_passes_in_its_header_or_in_its_parameter_and_nowhere_else() -> None:
    header = compile_scheme(ApiKey(header="X-Key"), [b"other", b"k y&/+"])
    assert header(request(b"", ("x-key", "k y&/+")), NOW) == Verified(1)
    query = compile_scheme(ApiKey(query="k ey"), [b"other", b"k y&/+"])
    for text in (b"a=1&k+ey=k+y%26/%2B", b"k%20ey=k%20y%26%2f%2b&b", b"%6b+ey=k%20y%26/%2B"):
        assert query(request(b"", query=text), NOW) == Verified(1)
    for verify, refused in (
        (header, request(b"")),
        (header, request(b"", ("X-Key", ""))),
        (header, request(b"", ("X-Key", "k"))),
        (header, request(b"", ("X-Key", "k y&/+"), ("X-Key", "k y&/+"))),
        (header, request(b"", query=b"X-Key=k+y%26/%2B")),
        (query, request(b"")),
        (query, request(b"", query=b"k+ey=")),
        (query, request(b"", query=b"k+ey")),
        (query, request(b"", query=b"k+ey=k+y%26/+")),
        (query, request(b"", query=b"K+ey=k+y%26/%2B")),
        (query, request(b"", query=b"k+ey=k+y%26/%2B&k%20ey=1")),
        (query, request(b"", query=b"&=&%&%zz=%&\xff=\xff")),
        (query, request(b"", ("k ey", "k y&/+"))),
    ):
        assert isinstance(verify(refused, NOW), Refused), refused


@pytest.mark.parametrize("scheme", [ApiKey(), ApiKey(header="X", query="x")])
def test_a_key_stands_in_one_place(scheme: ApiKey) -> None:
    assert scheme.faults(Site())[0].startswith("header: expected either a header or a query parameter")
    assert isinstance(compile_scheme(scheme, [b"k"])(request(b"", ("X", "k"), query=b"x=k"), NOW), Refused)


EITHER = AnyOf((Bearer("X-Token", ""), ApiKey(query="token"), Standard()))


def test_any_of_several_schemes_passes_by_itself() -> None:
    verify = compile_scheme(EITHER, [b"!", b"YWJj"])
    assert verify(request(b"", ("X-Token", "YWJj")), NOW) == Verified(1)
    assert verify(request(b"", query=b"token=!"), NOW) == Verified(0)
    both = verify(request(b"", ("X-Token", "no"), query=b"token=!"), NOW)
    assert both == Verified(0)
    verdict = verify(request(b""), NOW)
    assert verdict == Refused(
        "header x-token is missing; and query parameter token is missing; and header svix-id is missing"
    )
    assert isinstance(compile_scheme(AnyOf(()), [b"k"])(request(b""), NOW), Refused)


PUBLIC = b"whpk_" + base64.b64encode(bytes(31) + b"\x01")


@pytest.mark.parametrize("key", [PUBLIC, b" " + PUBLIC, WHSEC.encode()])
def test_a_key_for_signatures_is_no_token_where_one_of_the_schemes_signs(key: bytes) -> None:
    verify = compile_scheme(EITHER, [key, b"token"])
    given = key.decode()
    for incoming in (request(b"", ("X-Token", given)), request(b"", query=b"token=" + quote(given).encode())):
        assert isinstance(verify(incoming, NOW), Refused)
    assert verify(request(b"", ("X-Token", "token")), NOW) == Verified(1)
    unsigned = AnyOf((Bearer("X-Token", ""), ApiKey(query="token")))
    assert compile_scheme(unsigned, [key])(request(b"", ("X-Token", given)), NOW) == Verified(0)


def test_a_public_key_is_no_token_of_gitlab() -> None:
    verify = compile_scheme(PRESETS["gitlab"].scheme, [PUBLIC])
    assert isinstance(verify(request(b"{}", ("X-Gitlab-Token", PUBLIC.decode())), NOW), Refused)


def test_a_damaged_key_is_said_although_it_could_be_a_token() -> None:
    EITHER.check_secret(PUBLIC)
    with pytest.raises(ValueError, match="expected 32 bytes after whpk_"):
        EITHER.check_secret(b"whpk_YWJj")


def test_a_secret_of_several_schemes_suits_one_of_them() -> None:
    EITHER.check_secret(b"!")
    with pytest.raises(ValueError, match="blank"):
        EITHER.check_secret(b" ")
    assert not EITHER.secretless
    assert AnyOf((Unsigned(),)).secretless


def test_every_scheme_says_what_must_not_be_kept() -> None:
    assert EITHER.credentials() == (("X-Token",), ("token",))
    assert Basic().credentials() == (("Authorization",), ())
    assert Hmac(header="X").credentials() == ((), ())
    assert EITHER.proof_headers() == Standard().proof_headers()


def sent_from(peer: str) -> Incoming:
    return Incoming("POST", "/in/a", b"", {}, b"", peer)


OPEN = compile_scheme(Unsigned(), [])


@pytest.mark.parametrize(
    ("networks", "peer", "passes"),
    [
        (["192.0.2.0/24"], "192.0.2.255", True),
        (["192.0.2.0/24"], "192.0.3.0", False),
        (["192.0.2.0/24"], "::ffff:192.0.2.7", True),
        (["192.0.2.0/24"], "::ffff:c000:207", True),
        (["192.0.2.0/24"], "::192.0.2.7", False),
        (["::ffff:192.0.2.0/120"], "192.0.2.7", True),
        (["::/0"], "192.0.2.7", False),
        (["::/0"], "::ffff:192.0.2.7", False),
        (["192.0.2.7", "2001:db8::/32"], "2001:DB8:0:0::1", True),
        (["192.0.2.7", "2001:db8::/32"], "192.0.2.7", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["0.0.0.0/0"], "", False),
        (["0.0.0.0/0", "::/0"], "unix:", False),
        (["0.0.0.0/0"], "192.0.2.7:443", False),
        (["0.0.0.0/0"], "192.000.002.007", False),
        (["0.0.0.0/0"], "3221225991", False),
        (["nonsense"], "192.0.2.7", False),
        ([], "", True),
    ],
)
def test_only_listed_addresses_pass(networks: list[str], peer: str, passes: bool) -> None:
    verdict = within_addresses(OPEN, networks)(sent_from(peer), NOW)
    assert isinstance(verdict, Verified) == passes


def test_an_address_does_not_stand_for_a_signature() -> None:
    verify = within_addresses(compile_scheme(Basic(), [b"a:b"]), ["192.0.2.7"])
    assert verify(sent_from("192.0.2.7"), NOW) == Refused("header authorization is missing")
    assert verify(sent_from("192.0.2.8"), NOW) == Refused("the sender's address 192.0.2.8 is not in the source's list")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nonsense", "expected a network such as 192.0.2.0/24 or 2001:db8::/32, got 'nonsense'"),
        ("192.0.2.7/33", "expected a network such as"),
        ("192.0.2.7/24", "expected a network, for example 192.0.2.0/24, got '192.0.2.7/24' with bits of a host"),
    ],
)
def test_what_is_no_network_is_said(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match="expected a network") as caught:
        network_of(text)
    assert str(caught.value).startswith(fault)
