"""What a body is for workflows: JSON, a form with all values and files, or text. The exact bytes stay in the log.

Promises: pure, never raises, whatever the bytes are and whatever the sender calls them; bounded in fields, and in
memory by a multiple of the body. What cannot be read as what it claims to be is text: no body is lost because we do not
understand it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from events.content_coding import DECODED_LIMIT, decoded
from events.content_forms import MULTIPART, URLENCODED, File, parse_form
from events.content_text import media_type, text

__all__ = ["DECODED_LIMIT", "Content", "File", "decoded", "parse"]

_PLAIN = ("application/json", "")
_DECODE = msgspec.json.decode
_FAULTS = (msgspec.MsgspecError, ValueError, RecursionError)
"""Whatever msgspec raises for bytes that are not JSON, not UTF-8, or nested too deep."""


class Content(msgspec.Struct, frozen=True, gc=False):
    """A body, parsed.

    Args:
        body: the JSON value; of a form, the first value of each field; else text.
        form: all values of each field, in their order; empty where the body is not a form.
        files: those of a multipart form, in their order; they are not in `form`.
    """

    body: Any
    form: dict[str, list[str]] = {}
    files: list[File] = []


def parse(body: bytes, content_type: str = "") -> Content:
    """The content of a body, without its Content-Encoding (see `decoded`).

    Senders are taken at their word only for forms: everything else that is JSON is read as JSON, whatever its type
    says, and so is an object or array that is sent under a form's type (curl's default).

    Args:
        content_type: the header's value; empty if there was none.
    """
    kind, parameters = ("", {}) if content_type in _PLAIN else media_type(content_type)
    if kind in (URLENCODED, MULTIPART):
        if body.lstrip()[:1] in (b"{", b"["):
            try:
                return Content(_DECODE(body))
            except _FAULTS:
                pass
        form = parse_form(body, content_type)
        if form is not None:
            first = {name: values[0] for name, values in form.fields.items()}
            return Content(first, form.fields, form.files)
    try:
        return Content(_DECODE(body))
    except _FAULTS:
        return Content(_otherwise(body, parameters.get("charset")))


def _otherwise(body: bytes, charset: str | None) -> Any:
    """JSON with a byte order mark, in another charset or with broken characters (RFC 8259 §8.1 allows none of it), else
    text.
    """
    written = text(body, charset)
    if written[:1] not in ("{", "["):
        return written
    try:
        return _DECODE(written)
    except _FAULTS:
        return written
