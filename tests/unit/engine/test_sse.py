"""Server-sent events come out the same however the bytes are cut, and nothing is held without a bound."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.engine.sse import EventReader

TEXT = (
    b"\xef\xbb\xbfdata: one\n\n: a heartbeat\n\n\r\nevent: x\ndata:two\rdata:  lines\r\n\r\nid: 3\n\n"
    b"data\n\ndata:\r\rdata: a: b\n\ndata: cut"
)
EVENTS = [b"one", b"two\n lines", b"", b"", b"a: b"]


@given(st.lists(st.integers(0, len(TEXT))))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(TEXT)]
    reader = EventReader()
    pieces = [TEXT[start:end] for start, end in pairwise(places)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS


def test_byte_by_byte() -> None:
    reader = EventReader()
    assert [event for byte in TEXT for event in reader.feed(bytes([byte]))] == EVENTS


@pytest.mark.parametrize("endless", [b"data: xxxxxxxx", b"xxxxxxxx", b"data: xxxx\n", b"\xef\xbb\xbf: xx"])
def test_what_never_ends_is_refused(endless: bytes) -> None:
    reader = EventReader(100)
    with pytest.raises(ValueError, match="at most 100 bytes"):
        list(map(reader.feed, [endless] * 100))
