"""Text of any charset, and what a Content-Type says: the parts that all kinds of bodies share.

Promises: nothing here raises, whatever a sender declares; what cannot be decoded is replaced, not left out.
"""

from __future__ import annotations

import codecs
import re

from multipart import parse_options_header  # type: ignore[import-untyped]

_LONGEST_TYPE = 1000
"""Characters of a Content-Type. One with more says nothing; real ones have fewer than 200."""
# Python's names of charsets that are nothing but charsets: no idna, no unicode_escape, no utf-7, nothing slow.
_CHARSETS = re.compile(
    r"utf-(?:8|16|32)(?:-[bl]e)?|ascii|iso8859-\d{1,2}|cp\d{3,5}|koi8-[rtu]|mac-[a-z]+|gb2312|gbk|gb18030|big5(?:hkscs)?"
    r"|shift_jis(?:_2004|x0213)?|euc_(?:jp|kr|jis_2004|jisx0213)|iso2022_(?:jp(?:_(?:1|2|2004|3|ext))?|kr)"
)
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,39}")
_MARKS = (  # UTF-32's marks begin with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def media_type(content_type: str) -> tuple[str, dict[str, str]]:
    """A Content-Type's media type and its parameters, names in lower case; `("", {})` if it is none.

    A line feed stands between the values of a header that came more than once: neither of them is believed.
    """
    if len(content_type) > _LONGEST_TYPE or "\n" in content_type:
        return "", {}
    kind, parameters = parse_options_header(content_type)
    return kind, parameters


def charset(label: str | None, default: str = "utf-8") -> str:
    """Python's name of the charset that a sender calls `label`; `default` where it is not one that is known here."""
    if not label or not _LABEL.fullmatch(label):
        return default
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return default
    return name if _CHARSETS.fullmatch(name) else default


def text(body: bytes, label: str | None = None) -> str:
    """The body as text: by its byte order mark, which is left out, else by its charset, else by UTF-8."""
    for mark, name in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    return body.decode(charset(label), "replace")
