"""Forms: application/x-www-form-urlencoded and multipart/form-data, with all values of every field.

Promises: never raises; at most `MOST_FIELDS` fields; time and memory grow with the body and not faster. A form that is
damaged or has more fields is not a form (None): part of one would look like the whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from multipart import MultipartError, MultipartSegment, PushMultipartParser  # type: ignore[import-untyped]

from events.content_text import charset, media_type, text

MOST_FIELDS = 1000
"""Fields of one form, files included."""
FILE_TEXT_LIMIT = 1 << 20
"""Bytes of a file that may be handed on as text."""

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
_MOST_HEADERS = 8
_LONGEST_HEADER = 2048
_LONGEST_BOUNDARY = 200
"""RFC 2046 §5.1.1 allows 70."""
_SLICE = 1 << 16
_HEX = "0123456789abcdefABCDEF"
_BYTES = {(high + low).encode(): bytes([int(high + low, 16)]) for high in _HEX for low in _HEX}


class File(msgspec.Struct, frozen=True):
    """A file of a multipart form. `size` in bytes; `text` where it is text of at most `FILE_TEXT_LIMIT` bytes."""

    name: str
    filename: str
    content_type: str
    size: int
    text: str | None = None


class FormBody(msgspec.Struct, frozen=True):
    """All values of each field, in their order, and the files, which are not among the fields."""

    fields: dict[str, list[str]]
    files: list[File] = []


def parse_form(body: bytes, content_type: str, errors: str = "replace") -> FormBody | None:
    """The form in a body; None where the body is not one, or not one that can be read.

    Args:
        errors: what becomes of bytes that are not text in the form's charset; `backslashreplace` keeps them apart.
    """
    kind, parameters = media_type(content_type)
    if kind == URLENCODED:
        return _urlencoded(body, charset(parameters.get("charset")), errors)
    if kind == MULTIPART:
        return _multipart(body, parameters.get("boundary", ""), charset(parameters.get("charset")), errors)
    return None


def pairs(encoded: bytes) -> list[tuple[bytes, bytes]] | None:
    """The names and values of a query or a urlencoded form, not yet unquoted; None if there are too many."""
    if encoded.count(b"&") >= MOST_FIELDS:
        return None
    split = [piece.partition(b"=") for piece in encoded.split(b"&") if piece]
    return [(name, value) for name, _, value in split]


def unquoted(raw: bytes) -> bytes:
    """A name or a value without its quoting (`+` and `%41`); what is not a valid escape stays as it is.

    (https://url.spec.whatwg.org/#urlencoded-parsing. The standard library's takes 18 s and 4 GB for 25 MB of `%`.)
    """
    raw = raw.replace(b"+", b" ")
    if b"%" not in raw:
        return raw
    return b"".join([_unescaped(*piece.split(b"%")) for piece in _slices(raw)])


def _unescaped(first: bytes, *rest: bytes) -> bytes:
    get = _BYTES.get
    return first + b"".join([b"%" + run if (byte := get(run[:2])) is None else byte + run[2:] for run in rest])


def _slices(raw: bytes) -> Iterator[bytes]:
    """Pieces that cut no escape in two: one at a time, what unquoting makes on its way stays small."""
    start = 0
    while start < len(raw):
        end = start + _SLICE
        if end < len(raw) and (escape := raw.find(b"%", end - 2, end)) >= 0:
            end = escape
        yield raw[start:end]
        start = end


def _urlencoded(body: bytes, charset: str, errors: str) -> FormBody | None:
    found = pairs(body)
    if found is None:
        return None
    fields: dict[str, list[str]] = {}
    for name, value in found:
        fields.setdefault(unquoted(name).decode(charset, errors), []).append(unquoted(value).decode(charset, errors))
    return FormBody(fields)


def _multipart(body: bytes, boundary: str, charset: str, errors: str) -> FormBody | None:
    fields: dict[str, list[str]] = {}
    files: list[File] = []
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        return None
    try:
        for segment, content in _segments(body, boundary):
            name = _latin(segment.name or "").decode(charset, errors)
            if segment.filename is None:
                value = content.decode(charset if segment.charset is None else _own(segment, charset), errors)
                fields.setdefault(name, []).append(value)
            else:
                files.append(_file(name, segment, content))
    except (MultipartError, UnicodeError):
        return None
    return FormBody(fields, files)


def _segments(body: bytes, boundary: str) -> Iterator[tuple[MultipartSegment, bytes]]:
    """The parts of a multipart body. Header values come as Latin-1, which every byte has."""
    parser = PushMultipartParser(
        boundary.encode("latin-1"),
        max_header_size=_LONGEST_HEADER,
        max_header_count=_MOST_HEADERS,
        max_segment_count=MOST_FIELDS,
        header_charset="latin-1",
    )
    segment: MultipartSegment | None = None
    content: list[bytes] = []
    with parser:
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                segment, content = event, []
            elif event is not None:
                content.append(event)
            elif segment is not None:
                yield segment, b"".join(content)


def _own(segment: MultipartSegment, default: str) -> str:
    return charset(segment.charset, default)


def _latin(value: str) -> bytes:
    return value.encode("latin-1", "replace")


def _file(name: str, segment: MultipartSegment, content: bytes) -> File:
    filename = _latin(segment.filename or "").decode("utf-8", "replace")
    kind = (segment.content_type or "")[:200]
    shown = text(content, segment.charset) if len(content) <= FILE_TEXT_LIMIT and _is_text(kind, content) else None
    return File(name, filename, kind, len(content), shown)


def _is_text(kind: str, content: bytes) -> bool:
    """Whether a file says that it is text, or says nothing that tells and is UTF-8 without NUL."""
    kinds = ("application/json", "application/xml", "application/x-ndjson", "application/javascript", URLENCODED)
    if kind.startswith("text/") or kind in kinds or kind.endswith(("+json", "+xml")):
        return True
    if kind not in ("", "application/octet-stream") or b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
