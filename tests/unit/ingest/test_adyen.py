"""Adyen: every item as Adyen's own library signs it, by one key, or nothing passes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.verify import adyen
from ingest.verify.adyen import MOST_BYTES, MOST_ITEMS, Adyen
from ingest.verify.base import Refused, Site, Verified
from tests.unit.ingest import vendors
from tests.unit.ingest.requests import NOW, request

KEY = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
OTHER = "00" * 32
ITEM = {
    "additionalData": {"shopperReference": "☸"},
    "amount": {"value": 1130, "currency": "EUR"},
    "pspReference": "7914073381342284",
    "eventCode": "AUTHORISATION",
    "eventDate": "2019-05-06T17:15:34.121+02:00",
    "merchantAccountCode": "TestMerchant",
    "merchantReference": "TestPayment-1407325143704",
    "paymentMethod": "visa",
    "success": "true",
}
verify = Adyen().compile([OTHER.encode(), KEY.lower().encode()], Site())


def signed(item: dict[str, Any], key: str = KEY) -> dict[str, Any]:
    signature = vendors.adyen.generate_notification_sig(item, key).decode()
    return item | {"additionalData": item["additionalData"] | {"hmacSignature": signature}}


def body(*items: dict[str, Any]) -> bytes:
    wrapped = [{"NotificationRequestItem": item} for item in items]
    return json.dumps({"live": "false", "notificationItems": wrapped}).encode()


def verdict(*items: dict[str, Any]) -> object:
    return verify(request(body(*items)), NOW)


def test_the_example_of_adyens_documentation_passes() -> None:
    example = ITEM | {"additionalData": {"hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="}}
    assert verdict(example) == Verified(1)
    assert vendors.adyen.is_valid_hmac_notification(copy.deepcopy(example), KEY)


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8", exclude_characters=":")))
def test_what_the_library_signs_passes(reference: str, original: str) -> None:
    item = ITEM | {"merchantReference": reference, "originalReference": original}
    assert verdict(signed(item)) == Verified(1)


def test_every_item_has_to_pass_by_the_same_key() -> None:
    second = ITEM | {"pspReference": "2"}
    assert verdict(signed(ITEM), signed(second)) == Verified(1)
    for bad in (second, signed(second, OTHER), signed(second) | {"success": "false"}):
        for items in ((signed(ITEM), bad), (bad, signed(ITEM))):
            assert isinstance(verdict(*items), Refused)


@pytest.mark.parametrize(
    "damage",
    [
        {"pspReference": "x"},
        {"pspReference": None},
        {"originalReference": "x"},
        {"merchantAccountCode": "x"},
        {"merchantReference": "x"},
        {"merchantReference": None},
        {"amount": {"value": 1131, "currency": "EUR"}},
        {"amount": {"value": "1130 ", "currency": "EUR"}},
        {"amount": {"value": 1130, "currency": "USD"}},
        {"amount": {"value": 1130.5, "currency": "EUR"}},
        {"amount": None},
        {"eventCode": "CAPTURE"},
        {"success": "false"},
        {"success": None},
        {"additionalData": {}},
        {"additionalData": None},
        {"additionalData": {"hmacSignature": ""}},
        {"additionalData": {"hmacSignature": "☸"}},
        {"additionalData": {"hmacSignature": None}},
    ],
)
def test_damage_is_refused(damage: dict[str, Any]) -> None:
    assert isinstance(verdict(signed(ITEM) | damage), Refused)


def test_a_colon_cannot_move_a_value_to_another_member() -> None:
    good = signed(ITEM | {"merchantReference": "a:b"})
    assert verdict(good) == Verified(1)
    moved = good | {"merchantAccountCode": "TestMerchant:a", "merchantReference": "b"}
    assert verdict(moved) == Refused("the body holds no items that are signed")


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"notificationItems":{}}', b'{"notificationItems":[{}]}'],
)
def test_what_is_no_notification_is_refused(text: bytes) -> None:
    assert verify(request(text), NOW) == Refused("the body holds no items that are signed")


def test_no_item_and_too_many_items_are_refused() -> None:
    assert verdict() == Refused(f"the body holds 0 items; 1 to {MOST_ITEMS} are accepted")
    many = [signed(ITEM)] * (MOST_ITEMS + 1)
    assert verdict(*many) == Refused(f"the body holds {MOST_ITEMS + 1} items; 1 to {MOST_ITEMS} are accepted")


def test_too_many_items_are_counted_before_any_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adyen, "_decode", lambda body: pytest.fail("the body was decoded"))
    many = body(*[signed(ITEM)] * (MOST_ITEMS + 1))
    assert verify(request(many), NOW) == Refused(
        f"the body holds {MOST_ITEMS + 1} items; 1 to {MOST_ITEMS} are accepted"
    )
    long = body(signed(ITEM)).ljust(MOST_BYTES + 1)
    assert verify(request(long), NOW) == Refused(f"the body has {len(long)} bytes; at most {MOST_BYTES} are accepted")


def test_items_that_hide_from_the_count_are_refused_all_the_same() -> None:
    many = body(*[signed(ITEM)] * (MOST_ITEMS + 1)).replace(b"hmacSig", b"hmac\\u0053ig")
    assert len(many) <= MOST_BYTES
    assert verify(request(many), NOW) == Refused(
        f"the body holds {MOST_ITEMS + 1} items; 1 to {MOST_ITEMS} are accepted"
    )


def test_the_longest_body_passes() -> None:
    assert verify(request(body(signed(ITEM)).ljust(MOST_BYTES)), NOW) == Verified(1)


def test_a_key_is_hexadecimal() -> None:
    Adyen().check_secret(f" {KEY}\n".encode())
    for secret in (b"", b" ", b"xyz", b"ABC", "ß".encode()):
        with pytest.raises(ValueError, match="expected"):
            Adyen().check_secret(secret)
        assert Adyen().compile([secret], Site())(request(b""), NOW) == Refused("the source has no usable secret")
