"""Makes requests for the tests of verification and identity."""

from __future__ import annotations

from ingest.verify.schemes import Description, Incoming, Site, Verifier, headers_of

NOW = 1_772_445_600.0
SECRET = "It's a Secret to Everybody"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRETS = {
    "github": SECRET,
    "standard": WHSEC,
    "stripe": "whsec_stripe_made_up",
    "generic": SECRET,
    "none": "",
}


def request(body: bytes, *headers: tuple[str, str], query: bytes = b"", method: str = "POST") -> Incoming:
    """A request as ingest hands it over."""
    raw = [(name.lower().encode(), value.encode("utf-8")) for name, value in headers]
    return Incoming(method, "/in/test", query, headers_of(raw), body)


def compile_scheme(scheme: Description, secrets: list[bytes], url: str = "") -> Verifier:
    """The verifier of a source at `url`."""
    return scheme.compile(secrets, Site(url))


def without(headers: list[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    """The headers, all but one."""
    return [header for header in headers if header[0].lower() != name.lower()]


def changed(headers: list[tuple[str, str]], name: str, value: str) -> list[tuple[str, str]]:
    """The headers with another value for one that was there."""
    assert any(header[0].lower() == name.lower() for header in headers)
    return [(key, value if key.lower() == name.lower() else old) for key, old in headers]
