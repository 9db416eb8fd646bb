"""What the tests sign with where no SDK does: written from the vendors' documentation, apart from `ingest.verify`."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

from tests.vendors.vendor import Delivery


def hexed(secret: str, message: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), message, algorithm).hexdigest()


def based(secret: str, message: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hmac.new(secret.encode(), message, algorithm).digest()).decode()


def digest(message: bytes) -> str:
    return hashlib.sha256(message).hexdigest()


def over_body(header: str, form: str, encode: Callable[[str, bytes], str]) -> Callable[[bytes, float, str], Delivery]:
    """A sender that signs the body alone; `form` is the header's value, with `{}` for the signature."""

    def sign(body: bytes, now: float, secret: str) -> Delivery:
        return Delivery(((header, form.format(encode(secret, body))),), body)

    return sign


def in_header(header: str, form: str = "{}") -> Callable[[bytes, float, str], Delivery]:
    """A sender that shows the secret itself."""

    def sign(body: bytes, now: float, secret: str) -> Delivery:
        return Delivery(((header, form.format(secret)),), body)

    return sign
