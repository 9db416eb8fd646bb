"""A workflow gets JSON, all values of a form, or text: never an error, and never a part that looks like the whole."""

from __future__ import annotations

import codecs
import sys
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.content import Content, File, parse
from events.content_forms import FILE_TEXT_LIMIT, MOST_FIELDS, pairs, parse_form, unquoted
from events.content_text import charset, media_type

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=XX"


def multipart(*parts: tuple[str, bytes], end: bytes = b"--XX--\r\n") -> bytes:
    """A body of (headers after `Content-Disposition: form-data; `, content)."""
    written = [
        b"--XX\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + body + b"\r\n"
        for head, body in parts
    ]
    return b"".join(written) + end


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/vnd.api+json; charset=utf-8", "", "text/plain", "nonsense", FORM, MULTIPART],
)
def test_an_object_is_json_under_any_type(content_type: str) -> None:
    assert parse(b' {"a":[1,{"b":null}]}', content_type) == Content({"a": [1, {"b": None}]})


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"17", "application/json", 17),
        (b"", "application/json", ""),
        (b"", "", ""),
        (b"<a>\xc3\xbc</a>", "application/xml", "<a>ü</a>"),
        (b"<a>\xfc</a>", "text/xml; charset=ISO-8859-1", "<a>ü</a>"),
        (b"<a>\xfc</a>", 'text/xml;charset="latin1"', "<a>ü</a>"),
        (b"\xfc", "text/plain", "�"),
        (b"\xfc", "text/plain; charset=idna", "�"),
        (b"\x80", "text/plain; charset=windows-1252", "€"),
        (b"\xef\xbb\xbf<a/>", "text/xml; charset=latin1", "<a/>"),
        ("<a>ü</a>".encode("utf-16"), "text/xml", "<a>ü</a>"),
        ("<a>ü</a>".encode("utf-32"), "", "<a>ü</a>"),
        (b'{"a":', "application/json", '{"a":'),
        (b'{"a":"\xff"', "application/json", '{"a":"�"'),
        (b"\x00\x01", "application/octet-stream", "\x00\x01"),
    ],
)
def test_what_is_not_json_is_text(body: bytes, content_type: str, expected: Any) -> None:
    assert parse(body, content_type) == Content(expected)


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "latin-1"])
def test_json_with_a_byte_order_mark_or_in_a_declared_charset_is_json(name: str) -> None:
    body = '{"a":"ü"}'.encode(name)
    assert parse(body, f"application/json; charset={name.removesuffix('-sig')}") == Content({"a": "ü"})
    if name in ("utf-8-sig", "utf-16", "utf-32"):
        assert parse(body) == Content({"a": "ü"})


def test_in_json_too_what_is_no_text_is_replaced() -> None:
    assert parse(b'{"a":"\xff","b":1}', "application/json") == Content({"a": "�", "b": 1})


def test_a_form_has_all_values_and_its_first_ones_as_body() -> None:
    content = parse(b"a=1&b=%C3%BC+%2B&a=2&&c&=d&%zz=%e", FORM + "; charset=UTF-8")
    assert content.form == {"a": ["1", "2"], "b": ["ü +"], "c": [""], "": ["d"], "%zz": ["%e"]}
    assert content.body == {"a": "1", "b": "ü +", "c": "", "": "d", "%zz": "%e"}
    assert parse(b"a=%FC", FORM + "; charset=latin1").body == {"a": "ü"}
    assert parse(b"a=%FC", FORM).body == {"a": "�"}


def test_a_form_that_only_begins_like_json_is_a_form() -> None:
    assert parse(b"[a]=1", FORM).form == {"[a]": ["1"]}
    assert parse(b"12", FORM).form == {"12": [""]}


def test_a_form_of_too_many_fields_is_text_and_not_the_first_of_them() -> None:
    fields = [(f"f{number}", "1") for number in range(MOST_FIELDS)]
    assert len(parse(urlencode(fields).encode(), FORM).form) == MOST_FIELDS
    more = urlencode([*fields, ("more", "1")])
    assert parse(more.encode(), FORM) == Content(more)
    parts = [(f'name="{name}"', value.encode()) for name, value in fields]
    assert len(parse(multipart(*parts), MULTIPART).form) == MOST_FIELDS
    assert parse(multipart(*parts, ('name="more"', b"1")), MULTIPART).form == {}


def test_a_multipart_form_has_all_values_and_its_files() -> None:
    body = multipart(
        ('name="a"', b"1"),
        ('name="a"', "ü".encode()),
        ('name="l"\r\nContent-Type: text/plain; charset=latin1', b"\xfc"),
        ('name="f"; filename="ü.txt"\r\nContent-Type: text/plain', b"text\r\n--X"),
        ('name="f"; filename="a.png"\r\nContent-Type: image/png', b"\x89PNG"),
        ('name="g"; filename="x"', b"plain"),
        ('name="g"; filename="y"', b"\xff"),
        ('name="h"; filename=""\r\nContent-Type: application/json', b'\xef\xbb\xbf{"a":1}'),
    )
    content = parse(body, MULTIPART)
    assert content.form == {"a": ["1", "ü"], "l": ["ü"]}
    assert content.body == {"a": "1", "l": "ü"}
    assert content.files == [
        File("f", "ü.txt", "text/plain", 9, "text\r\n--X"),
        File("f", "a.png", "image/png", 4),
        File("g", "x", "", 5, "plain"),
        File("g", "y", "", 1),
        File("h", "", "application/json", 10, '{"a":1}'),
    ]


def test_a_large_file_is_told_of_but_not_handed_on() -> None:
    body = multipart(('name="f"; filename="x"\r\nContent-Type: text/plain', b"x" * (FILE_TEXT_LIMIT + 1)))
    assert parse(body, MULTIPART).files == [File("f", "x", "text/plain", FILE_TEXT_LIMIT + 1)]


WHOLE = multipart(('name="a"', b"1"), ('name="b"; filename="c"', b"2"))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (WHOLE[:-4], MULTIPART),
        (WHOLE, "multipart/form-data"),
        (WHOLE, "multipart/form-data; boundary="),
        (WHOLE, "multipart/form-data; boundary=YY"),
        (WHOLE, 'multipart/form-data; boundary="' + "X" * 300 + '"'),
        (WHOLE, 'multipart/form-data; boundary="X☃"'),
        (WHOLE, "multipart/mixed; boundary=XX"),
        (WHOLE.replace(b"form-data", b"attachment"), MULTIPART),
        (multipart(('name="a"\r\nX: ' + "y" * 3000, b"")), MULTIPART),
        (multipart(('name="a"' + "\r\nX: y" * 9, b"")), MULTIPART),
        (b"", MULTIPART),
    ],
)
def test_a_damaged_multipart_form_is_text(body: bytes, content_type: str) -> None:
    assert parse(body, content_type) == Content(body.decode())


DEEP = 2 * sys.getrecursionlimit()


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b"[" * DEEP + b"]" * DEEP, b"9" * 100_000, b"[" + b"9" * 5000 + b"]", b"1e999999"]
)
def test_json_that_cannot_be_held_is_text(body: bytes) -> None:
    assert parse(body, "application/json") == Content(body.decode())


TYPES = st.sampled_from(
    ["", "application/json", FORM, FORM + "; charset=utf-16", MULTIPART, "text/xml; charset=shift_jis"]
) | st.text(max_size=60)
BODIES = (
    st.binary()
    | st.text().map(str.encode)
    | st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=40)), max_size=4).map(
        lambda parts: multipart(*[(f"name={name!r}", content) for name, content in parts])
    )
)


@given(body=BODIES, content_type=TYPES)
@example(body=b"%" * 10, content_type=FORM)
@example(body=codecs.BOM_UTF16_LE + b"\x00", content_type="")
def test_parse_never_raises_and_what_it_gives_can_be_written(body: bytes, content_type: str) -> None:
    content = parse(body, content_type)
    msgspec.json.encode(content)
    assert len(content.form) + len(content.files) <= MOST_FIELDS
    if content.form:
        assert content.body == {name: values[0] for name, values in content.form.items()}


@given(fields=st.dictionaries(st.text(min_size=1), st.lists(st.text(), min_size=1)))
def test_a_form_is_read_as_the_standard_library_reads_it(fields: dict[str, list[str]]) -> None:
    encoded = urlencode(fields, doseq=True, encoding="utf-8", errors="replace")
    form = parse_form(encoded.encode(), FORM)
    assert form is not None
    assert form.fields == parse_qs(encoded, keep_blank_values=True)


@given(raw=st.binary(max_size=300) | st.text("%4aF+z", max_size=300).map(str.encode), padding=st.integers(0, 3))
def test_unquoting_is_that_of_any_other_library_even_between_slices(raw: bytes, padding: int) -> None:
    from urllib.parse import unquote_to_bytes  # noqa: PLC0415

    long = b"x" * (65536 - padding - len(raw) // 2) + raw + b"y" * 65536
    assert unquoted(long) == unquote_to_bytes(long.replace(b"+", b" "))


@given(content=st.binary(max_size=50))
def test_quoted_bytes_come_back(content: bytes) -> None:
    assert unquoted(quote(content, safe="").encode()) == content


def test_too_many_pairs_are_none() -> None:
    assert pairs(b"&" * MOST_FIELDS) is None
    assert pairs(b"&" * (MOST_FIELDS - 1)) == []


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("UTF8", "utf-8"),
        ("iso-8859-15", "iso8859-15"),
        ("Shift_JIS", "shift_jis"),
        *[
            (label, "utf-8")
            for label in (None, "", "rot13", "base64", "unicode_escape", "utf-7", "undefined", "idna", "a\0b", "../os")
        ],
    ],
)
def test_only_charsets_are_charsets(label: str | None, expected: str) -> None:
    assert charset(label) == expected


def test_a_type_of_any_length_is_read_or_ignored() -> None:
    assert media_type(' Text/XML ; Charset="a b"; x=y') == ("text/xml", {"charset": "a b", "x": "y"})
    assert media_type("a" * 2000) == ("", {})
    assert media_type("text/xml; charset=utf-8\ntext/xml; charset=utf-8") == ("", {})
