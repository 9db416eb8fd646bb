"""A coded body becomes what it was, or is left as it is: never more than the limit, never a part of it."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from events.content_coding import decoded

BODY = b'{"order":7,"note":"' + b"wheel " * 50 + b'"}'


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


def open_zstd(body: bytes) -> bytes:
    """A frame that does not say how large its content is."""
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(body) + packer.flush()


CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate ": raw_deflate,
    "zstd": zstandard.compress,
    "ZSTD": open_zstd,
}
NAMES = list(CODERS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [BODY, b"", b"x" * 300_000], ids=["json", "empty", "long"])
def test_what_was_coded_comes_back(name: str, body: bytes) -> None:
    assert decoded(CODERS[name](body), name, 300_000) == body


@pytest.mark.parametrize("outer", NAMES)
def test_two_codings_are_undone_in_their_order(outer: str) -> None:
    assert decoded(CODERS[outer](gzip.compress(BODY)), f"gzip, {outer}") == BODY
    assert decoded(CODERS[outer](gzip.compress(BODY)), f"identity,gzip,,{outer},identity") == BODY


@pytest.mark.parametrize("encoding", ["br", "compress", "aes128gcm", "gzip, br", "gzip;q=1", "gzip,gzip,gzip", "é"])
def test_what_is_not_known_or_too_much_is_none(encoding: str) -> None:
    assert decoded(gzip.compress(gzip.compress(gzip.compress(BODY))), encoding) is None


@pytest.mark.parametrize("encoding", ["", "identity", " , IDENTITY"])
def test_no_coding_leaves_the_body(encoding: str) -> None:
    assert decoded(BODY, encoding, len(BODY)) == BODY
    assert decoded(BODY, encoding, len(BODY) - 1) is None


@pytest.mark.parametrize("name", NAMES)
def test_cut_off_followed_or_damaged_is_none(name: str) -> None:
    coded = CODERS[name](BODY)
    assert [decoded(coded[:end], name) for end in range(len(coded))] == [None] * len(coded)
    assert decoded(coded + b"\0", name) is None
    assert decoded(BODY, name) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_limit_is_exact_for_every_coding(name: str) -> None:
    coded = CODERS[name](BODY)
    assert decoded(coded, name, len(BODY)) == BODY
    assert decoded(coded, name, len(BODY) - 1) is None
    assert decoded(gzip.compress(coded), f"{name}, gzip", len(BODY)) == BODY
    assert decoded(gzip.compress(coded + bytes(500)), f"{name}, gzip", len(BODY)) is None


def test_gzip_members_follow_each_other_but_not_without_end() -> None:
    assert decoded(gzip.compress(b"a") + gzip.compress(b"b"), "gzip") == b"ab"
    assert decoded(gzip.compress(b"") * 1000, "gzip") == b""
    assert decoded(gzip.compress(b"") * 1001, "gzip") is None
    assert decoded(zlib.compress(b"a") * 2, "deflate") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_takes_no_more_memory_than_its_limit(name: str) -> None:
    bomb = CODERS[name](bytes(64 << 20))
    assert len(bomb) < 1 << 17
    tracemalloc.start()
    try:
        assert decoded(bomb, name, 1 << 20) is None
        assert decoded(gzip.compress(bomb), f"{name},gzip", 1 << 20) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@given(body=st.binary(), encoding=st.sampled_from([*NAMES, "gzip,deflate"]), cut=st.integers(0, 400))
def test_nothing_raises(body: bytes, encoding: str, cut: int) -> None:
    for coded in (body, gzip.compress(body)[:cut] + body, zstandard.compress(body)[:cut] + body):
        found = decoded(coded, encoding, 1000)
        assert found is None or len(found) <= 1000
