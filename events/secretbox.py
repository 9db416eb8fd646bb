"""Secrets at rest: sealed with a key that only the settings hold, bound to the row they belong to.

Promises: what is opened is what was sealed, under the same context, or it is an error; a sealed secret moved
to another row does not open. Several keys make rotation possible: the first seals, all of them open.

The form (AES-256-GCM, NIST SP 800-38D; the context is the associated data):

    1 byte version (1) · 4 bytes key id (BLAKE2b of the key) · 12 bytes random nonce · ciphertext and 16 bytes
    tag
"""

from __future__ import annotations

import base64
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.errors import ConfigError

_VERSION = b"\x01"
_KEY_BYTES = 32
_ID_END = 5
_NONCE_END = 17
_LEAST = _NONCE_END + 16
_HOW = "make one with: head -c 32 /dev/urandom | base64"


def key_id(sealed: bytes) -> str:
    """The id of the key that sealed this, in hex; `?` for what a newer version sealed."""
    return sealed[1:_ID_END].hex() if sealed[:1] == _VERSION else "?"


class SecretBox:
    """Seals and opens secrets.

    Args:
        keys: one or more keys, each 32 bytes in base64, separated by commas: `settings.secret_key`.

    Raises:
        ConfigError: no key, or one that is not 32 bytes in base64; every fault at once, none shows a key.
    """

    def __init__(self, keys: str) -> None:
        texts = [text.strip() for text in keys.split(",") if text.strip()]
        faults: list[str] = []
        if not texts:
            faults.append(f"secret_key: expected 32 bytes in base64, got nothing; {_HOW}")
        self._ciphers: dict[bytes, AESGCM] = {}
        for number, text in enumerate(texts, 1):
            which = f"secret_key (number {number} of {len(texts)})" if len(texts) > 1 else "secret_key"
            try:
                key = base64.b64decode(text, validate=True)
            except ValueError:
                faults.append(f"{which}: expected 32 bytes in base64, got something else; {_HOW}")
                continue
            if len(key) != _KEY_BYTES:
                faults.append(f"{which}: expected 32 bytes in base64, got {len(key)} bytes; {_HOW}")
                continue
            self._ciphers[hashlib.blake2b(key, digest_size=4).digest()] = AESGCM(key)
        if faults:
            raise ConfigError("settings", faults)
        self._sealing_id, self._sealing = next(iter(self._ciphers.items()))

    def __repr__(self) -> str:
        return f"SecretBox(key ids {', '.join(identifier.hex() for identifier in self._ciphers)})"

    def seal(self, plain: bytes, context: str) -> bytes:
        """The sealed form of `plain`, which opens only under the same context, for example `source/3`."""
        nonce = os.urandom(_NONCE_END - _ID_END)
        return _VERSION + self._sealing_id + nonce + self._sealing.encrypt(nonce, plain, context.encode())

    def current(self, sealed: bytes) -> bool:
        """Whether it was sealed by the key that seals now; if not, seal it again before that key is taken away."""
        return sealed[:_ID_END] == _VERSION + self._sealing_id

    def open(self, sealed: bytes, context: str) -> bytes:
        """What was sealed.

        Raises:
            ConfigError: the key that sealed it is not among ours, or the bytes were altered, cut off, sealed
            for
                another context, or written by a newer version.
        """
        if len(sealed) < _LEAST or sealed[:1] != _VERSION:
            raise ConfigError(context, ["secret: expected a sealed secret of version 1, got other bytes"])
        key_id = sealed[1:_ID_END]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            ours = ", ".join(identifier.hex() for identifier in self._ciphers)
            fault = f"secret_key: expected the key that sealed this (id {key_id.hex()}), got only: {ours}"
            raise ConfigError(context, [f"{fault}; add the old key after the new one, separated by a comma"])
        try:
            return cipher.decrypt(sealed[_ID_END:_NONCE_END], sealed[_NONCE_END:], context.encode())
        except InvalidTag:
            raise ConfigError(
                context, ["secret: expected what was sealed here, got altered bytes or those of another row"]
            ) from None
