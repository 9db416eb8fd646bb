"""Undoes Content-Encoding (RFC 9110 §8.4): gzip, deflate, zstd, and two of them one upon the other.

Promises: never raises; never makes more than `limit` bytes, nor holds more than that for each coding, whatever a few
bytes in claim to become; its time is bounded by the bytes in and the bytes out. What is cut off, damaged, followed by
something else, or in a coding that is not known here, is None, and not the part that could be read.
"""

from __future__ import annotations

import zlib

import zstandard

DECODED_LIMIT = 64 << 20
"""Bytes that a body may become."""
MOST_CODINGS = 2
"""Codings of one body. Nobody sends more than one; each one more multiplies what a small body can cost."""

_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 1 << 16
"""Bytes fed at a time. What follows the end of a gzip member is copied, so that it must be little."""
_MOST_MEMBERS = 1000
"""Members of one gzip body (RFC 1952 §2.2 allows many). An empty one is 20 bytes that cost 1 µs and give nothing."""
_ZSTD_WINDOW = 8 << 20
"""The largest window that a sender may use (RFC 9659)."""


def decoded(body: bytes, content_encoding: str, limit: int = DECODED_LIMIT) -> bytes | None:
    """The body without its codings; None where it cannot be had, and the caller takes the body as it came.

    Args:
        content_encoding: the header's value: names in the order in which they were applied, in any case.
        limit: bytes, at most.
    """
    codings = [name.strip().lower() for name in content_encoding.split(",", 8)]
    codings = [name for name in codings if name not in ("", "identity")]
    if len(codings) > MOST_CODINGS:
        return None
    result: bytes | None = body
    for coding in reversed(codings):
        if result is None:
            return None
        match coding:
            case "gzip" | "x-gzip":
                result = _inflated(result, _GZIP, limit)
            case "deflate":
                # RFC 9110 means zlib's format; some senders leave out its frame (RFC 9110 §8.4.1.2, note).
                unwrapped = _inflated(result, zlib.MAX_WBITS, limit)
                result = _inflated(result, -zlib.MAX_WBITS, limit) if unwrapped is None else unwrapped
            case "zstd":
                result = _unzstd(result, limit)
            case _:
                return None
    return result if result is None or len(result) <= limit else None


def _inflated(body: bytes, form: int, limit: int) -> bytes | None:
    """The contents of one zlib or raw stream, or of gzip members to the end of the body."""
    out = bytearray()
    stream = zlib.decompressobj(form)
    members = 1
    try:
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            while piece:
                if stream.eof:
                    members += 1
                    if form != _GZIP or members > _MOST_MEMBERS:
                        return None
                    stream = zlib.decompressobj(form)
                out += stream.decompress(piece, limit - len(out) + 1)
                if len(out) > limit:
                    return None
                piece = stream.unused_data
    except zlib.error:
        return None
    return bytes(out) if stream.eof else None


def _unzstd(body: bytes, limit: int) -> bytes | None:
    """The content of one zstd frame."""
    reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        size = zstandard.frame_content_size(body)  # -1: the frame does not say
        if size > limit:
            return None
        if size >= 0:
            return reader.decompress(body, max_output_size=size, allow_extra_data=False)
        # This way does not see what follows the frame, but it is bounded; then the other way, which sees it, is too.
        reader.decompress(body, max_output_size=limit)
        stream = reader.decompressobj()
        content: bytes = stream.decompress(body)
        return content if stream.eof and not stream.unused_data else None
    except (zstandard.ZstdError, ValueError, OverflowError, MemoryError):
        return None
