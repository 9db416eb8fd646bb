"""Adyen: every item of a standard webhook has its own HMAC, over eight of its members.

Promises: all items pass, by one and the same key, or none does. The members are joined by colons that nothing escapes,
so none but the merchant's own reference may hold one, or a value could be moved from one member to the next. The
members beside those eight are not signed; the id of an item is made of three that are. The signatures stand in the
body, so a stranger's body is read too: only one of at most `MOST_BYTES`, with at most `MOST_ITEMS` items.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac

import msgspec

from ingest.verify.base import (
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verified,
    Verifier,
    refuse_all,
)

MOST_ITEMS = 1000
"""Of one notification. Adyen sends one, and a handful where it batches."""
MOST_BYTES = 4 << 20
"""Of one notification. An item has a few kilobytes."""


class _Amount(msgspec.Struct):
    value: int | str
    currency: str


class _Additional(msgspec.Struct):
    signature: str = msgspec.field(name="hmacSignature")


class _Item(msgspec.Struct, rename="camel"):
    psp_reference: str
    merchant_account_code: str
    event_code: str
    success: str | bool
    amount: _Amount
    additional_data: _Additional
    original_reference: str | None = None
    merchant_reference: str | None = None


class _Wrapped(msgspec.Struct):
    item: _Item = msgspec.field(name="NotificationRequestItem")


class _Body(msgspec.Struct, rename="camel"):
    notification_items: list[_Wrapped]


_decode = msgspec.json.Decoder(_Body).decode


class Adyen(Description, frozen=True, tag_field="scheme", tag="adyen"):
    """Base64 HMAC-SHA256 in `additionalData.hmacSignature`; the secret is the HMAC key, 64 hexadecimal digits.

    As `Adyen.util.generate_notification_sig` of Adyen's Python library 16.0: nothing escaped, absent members empty.
    Source: docs.adyen.com, "Verify HMAC signatures".
    """

    def compile(self, secrets: list[bytes], site: Site) -> Verifier:
        keys: list[tuple[Verified, bytes]] = []
        for index, secret in enumerate(secrets):
            with contextlib.suppress(ValueError):
                keys.append((Verified(index), _key(secret)))
        if not keys:
            return refuse_all("the source has no usable secret")

        def verify(incoming: Incoming, now: float) -> Verification:
            found = _read(incoming.body)
            if isinstance(found, Refused):
                return found
            signed, given = found
            for verified, key in keys:
                expected = (base64.b64encode(hmac.digest(key, text, "sha256")) for text in signed)
                if all(map(hmac.compare_digest, given, expected)):
                    return verified
            return Refused("not every item's signature matches")

        return verify

    def check_secret(self, secret: bytes) -> None:
        _key(secret)

    def summary(self) -> str:
        return "HMAC-SHA256 of eight members, base64, in each item"


def _read(body: bytes) -> tuple[list[bytes], list[bytes]] | Refused:
    """Of each item what is signed, and the signature. Nothing is made of a body that is too long or has too many."""
    if len(body) > MOST_BYTES:
        return Refused(f"the body has {len(body)} bytes; at most {MOST_BYTES} are accepted")
    # An escape in the member's name could hide an item from the count: then the decoder makes it, of a bounded body.
    count = body.count(b'"hmacSignature"')
    if count <= MOST_ITEMS:
        try:
            items = [wrapped.item for wrapped in _decode(body).notification_items]
            count = len(items)
            if 0 < count <= MOST_ITEMS:
                return [_signed(item) for item in items], [item.additional_data.signature.encode() for item in items]
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return Refused("the body holds no items that are signed")
    return Refused(f"the body holds {count} items; 1 to {MOST_ITEMS} are accepted")


def _key(secret: bytes) -> bytes:
    """The key that a secret stands for.

    Raises:
        ValueError: it is blank, or not hexadecimal. The message does not hold it.
    """
    try:
        key = binascii.unhexlify(secret.strip())
    except ValueError:
        raise ValueError("expected a key in hex, got something else") from None
    if not key:
        raise ValueError("expected a secret, got a blank one")
    return key


def _signed(item: _Item) -> bytes:
    """What the signature of an item is over.

    Raises:
        ValueError: a member holds a colon.
    """
    success = item.success if isinstance(item.success, str) else str(item.success).lower()
    before = (item.psp_reference, item.original_reference or "", item.merchant_account_code)
    after = (str(item.amount.value), item.amount.currency, item.event_code, success)
    if any(":" in value for value in (*before, *after)):
        raise ValueError("expected no colon in a signed member")
    return ":".join((*before, item.merchant_reference or "", *after)).encode()
