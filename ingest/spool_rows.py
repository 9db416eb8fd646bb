"""A receipt as it lies in the spool: bytes that read back as the very same receipt, or not at all.

The format is a checksum (CRC-32, 4 bytes, big-endian) and a MessagePack array in the order of `_Stored`; bodies are
packed as the log packs them (`events.codec`), which is a sixth of a GitHub webhook. SQLite has no checksum over what it
keeps: with one of our own a bit that fell over on the disk is found, and is not delivered as if a sender had sent it.
"""

from __future__ import annotations

import zlib
from uuid import UUID

import msgspec

from events.codec import pack, unpack
from events.types import Receipt

OVERHEAD = 256
"""Bytes that a row costs beside what it carries: ids, key, indices."""


class Damaged(ValueError):
    """The bytes are not what was written."""


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    """The fields of a Receipt, in this order for ever; new ones come at the end, with a default."""

    stream_id: bytes
    workspace_id: int
    source_id: int
    key: bytes
    metadata: str
    headers: bytes
    codec: int
    body: bytes
    nonce: bytes | None
    items: tuple[_Stored, ...]
    routed: bool


class Spooled(msgspec.Struct, frozen=True):
    """A row on its way out."""

    seq: int
    receipt: Receipt


class Unreadable(msgspec.Struct, frozen=True):
    """A row that the disk damaged."""

    seq: int
    fault: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


def encode(receipt: Receipt) -> bytes:
    """The bytes to keep."""
    plain = _encoder.encode(_stored(receipt))
    return zlib.crc32(plain).to_bytes(4, "big") + plain


def decode(kept: bytes) -> Receipt:
    """The receipt.

    Raises:
        Damaged: these are not the bytes that `encode` made, or a newer version made them.
    """
    plain = memoryview(kept)[4:]
    if zlib.crc32(plain) != int.from_bytes(kept[:4], "big"):
        raise Damaged("the row's checksum does not fit its bytes")
    try:
        return _receipt(_decoder.decode(plain))
    except (msgspec.MsgspecError, ValueError) as error:
        raise Damaged(f"the row cannot be read: {error}") from error


def read(seq: int, kept: bytes) -> Spooled | Unreadable:
    """A row as it comes from the file. It does not raise."""
    try:
        return Spooled(seq, decode(kept))
    except Damaged as error:
        return Unreadable(seq, str(error))


def weight(receipt: Receipt) -> int:
    """The most bytes that a receipt takes in the spool, which is about what it takes in memory; compression makes it
    less.
    """
    own = OVERHEAD + len(receipt.body) + len(receipt.headers) + len(receipt.metadata)
    return own + sum(map(weight, receipt.items)) if receipt.items else own


def cost(kept: bytes) -> int:
    """What a row counts towards the limit."""
    return len(kept) + OVERHEAD


def _stored(receipt: Receipt) -> _Stored:
    codec, body = pack(receipt.body)
    return _Stored(
        receipt.stream_id.bytes,
        receipt.workspace_id,
        receipt.source_id,
        receipt.key,
        receipt.metadata,
        receipt.headers,
        codec,
        body,
        receipt.nonce,
        tuple(map(_stored, receipt.items)),
        receipt.routed,
    )


def _receipt(stored: _Stored) -> Receipt:
    return Receipt(
        stream_id=UUID(bytes=stored.stream_id),
        workspace_id=stored.workspace_id,
        source_id=stored.source_id,
        key=stored.key,
        metadata=stored.metadata,
        headers=stored.headers,
        body=unpack(stored.codec, stored.body),
        nonce=stored.nonce,
        items=tuple(map(_receipt, stored.items)),
        routed=stored.routed,
    )
