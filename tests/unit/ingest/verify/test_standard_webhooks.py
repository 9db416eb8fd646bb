"""Standard Webhooks against its reference package, both ways, and cases that the package does not know."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from ingest.providers import PRESETS
from ingest.signing import sign
from ingest.verify.schemes import Refused, Verified
from ingest.verify.standard import MOST_PUBLIC_SIGNATURES
from tests.unit.ingest.requests import NOW, WHSEC, compile_scheme, request

SCHEME = PRESETS["standard"].scheme
BODY = '{"type":"user.created","data":{"name":"Mühle ☸"}}'


def reference_signature(identifier: str = "msg_1", body: str = BODY) -> str:
    moment = datetime.fromtimestamp(NOW, tz=UTC)
    return str(Webhook(WHSEC).sign(msg_id=identifier, timestamp=moment, data=body))


@given(body=st.text(max_size=300), identifier=st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True))
def test_what_the_reference_signs_we_verify(body: str, identifier: str) -> None:
    incoming = request(
        body.encode(),
        ("webhook-id", identifier),
        ("webhook-timestamp", str(int(NOW))),
        ("webhook-signature", reference_signature(identifier, body)),
    )
    assert compile_scheme(SCHEME, [WHSEC.encode()])(incoming, NOW) == Verified(0)


def test_what_we_sign_the_reference_verifies() -> None:
    now = time.time()  # the reference reads the clock
    headers = dict(sign("standard", WHSEC, "user.created", "msg_1", BODY.encode(), now))
    assert Webhook(WHSEC).verify(BODY, headers)["type"] == "user.created"
    with pytest.raises(WebhookVerificationError):
        Webhook(WHSEC).verify(BODY + " ", headers)


@pytest.mark.parametrize("secret", [WHSEC, WHSEC.removeprefix("whsec_"), f" {WHSEC}\n", "whsec_YWJj", "whsec_YWI"])
def test_a_secret_is_base64_with_or_without_its_prefix_and_padding(secret: str) -> None:
    SCHEME.check_secret(secret.encode())
    headers = sign("standard", secret, "", "msg_1", b"{}", NOW)
    assert compile_scheme(SCHEME, [secret.encode()])(request(b"{}", *headers), NOW) == Verified(0)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_*", "whsec_ä", "whpk_YWJj", "whpk_", "whpk_!"])
def test_a_secret_that_is_no_key_is_named_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        SCHEME.check_secret(secret.encode())
    assert "YWJj" not in str(caught.value)
    verdict = compile_scheme(SCHEME, [secret.encode()])(request(b"{}"), NOW)
    assert verdict == Refused("the source has no usable secret")


def signed_by(prefix: str, signature: str, identifier: str = "msg_1") -> list[tuple[str, str]]:
    return [
        (f"{prefix}-id", identifier),
        (f"{prefix}-timestamp", str(int(NOW))),
        (f"{prefix}-signature", signature),
    ]


def test_svix_headers_pass_but_never_mixed_with_the_others() -> None:
    verify = compile_scheme(SCHEME, [WHSEC.encode()])
    headers = signed_by("svix", reference_signature())
    assert verify(request(BODY.encode(), *headers), NOW) == Verified(0)
    mixed = request(BODY.encode(), *headers, ("webhook-id", "msg_2"))
    assert verify(mixed, NOW) == Refused("header webhook-timestamp is missing")


def test_one_good_signature_among_others_passes_up_to_a_limit() -> None:
    verify = compile_scheme(SCHEME, [WHSEC.encode()])
    good = reference_signature()

    def verdict(signatures: str) -> object:
        return verify(request(BODY.encode(), *signed_by("webhook", signatures)), NOW)

    assert verdict(f"v1,AAAA v2,x v1a,!! {good} junk") == Verified(0)
    assert isinstance(verdict(good.replace("v1,", "v2,")), Refused)
    assert isinstance(verdict(good.replace("v1,", "v1a,")), Refused)
    assert isinstance(verdict(good.rstrip("=")), Refused)
    assert isinstance(verdict(" ".join(["v1,AAAA"] * 16 + [good])), Refused)


def test_ed25519_signatures_pass_with_the_public_key() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = b"whpk_" + base64.b64encode(private.public_key().public_bytes_raw())
    verify = compile_scheme(SCHEME, [WHSEC.encode(), public])
    raw = private.sign(f"msg_1.{int(NOW)}.{BODY}".encode())
    good = f"v1a,{base64.b64encode(raw).decode()}"
    assert verify(request(BODY.encode(), *signed_by("webhook", f"v1,AAAA {good}")), NOW) == Verified(1)
    for body, signature in (
        (BODY + " ", good),
        (BODY, good[:-4]),
        (BODY, "v1a,"),
        (BODY, "v1a,é"),
        (BODY, good[4:]),
    ):
        verdict = verify(request(body.encode(), *signed_by("webhook", signature)), NOW)
        assert verdict == Refused("no signature matches")
    other = f"v1a,{base64.b64encode(bytes(64)).decode()}"
    for others, passes in ((MOST_PUBLIC_SIGNATURES - 1, True), (MOST_PUBLIC_SIGNATURES, False)):
        signatures = " ".join([*["v1,AAAA"] * 8, *[other] * others, good])
        verdict = verify(request(BODY.encode(), *signed_by("webhook", signatures)), NOW)
        assert isinstance(verdict, Verified) == passes


def test_an_id_with_a_full_stop_is_refused_because_it_could_swallow_the_time() -> None:
    stamp = str(int(NOW))
    signature = reference_signature("msg", f"{stamp}.{{}}")
    swallowed = request(b"{}", *signed_by("webhook", signature, f"msg.{stamp}"))
    verdict = compile_scheme(SCHEME, [WHSEC.encode()])(swallowed, NOW)
    assert verdict == Refused("header webhook-id holds a full stop")
