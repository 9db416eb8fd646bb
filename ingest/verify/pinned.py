"""Certificates that a sender names in its request: which addresses are believed, and what is done with one.

Promises: a request can name a certificate only at an address that the scheme's pattern matches as a whole, so neither
another host, port or user, nor plain http. The certificate itself is fetched elsewhere (`ingest.certificates`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.x509 import Certificate

from ingest.verify.base import Refused, Wanted

MOST_SIGNATURE = 1400
"""Characters of a base64 signature: that of an RSA key of 8192 bits has 1368."""


def public_key_at(url: str, certificates: Mapping[str, Certificate], now: float) -> RSAPublicKey | Refused | Wanted:
    """The RSA key of the certificate at `url`, which a pattern has matched; Wanted where it is not known here."""
    certificate = certificates.get(url)
    if certificate is None:
        return Wanted(url)
    moment = datetime.fromtimestamp(now, UTC)
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        return Refused("the sender's certificate is not valid at this time")
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return Refused("the sender's certificate holds a key of an unknown kind")
    return key if isinstance(key, RSAPublicKey) else Refused("the sender's certificate holds no RSA key")


def signature_of(text: str) -> bytes:
    """The bytes of a base64 signature; none at all, which no key has signed, where it is not one."""
    try:
        return base64.b64decode(text, validate=True) if len(text) <= MOST_SIGNATURE else b""
    except ValueError:
        return b""


def signed_by(key: RSAPublicKey, signature: bytes, message: bytes, algorithm: HashAlgorithm) -> bool:
    """Whether it is the key's PKCS #1 v1.5 signature over the message."""
    try:
        key.verify(signature, message, PKCS1v15(), algorithm)
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
