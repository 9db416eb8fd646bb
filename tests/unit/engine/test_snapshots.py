"""A snapshot is used only if everything about it fits; anything else is as good as none."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
import zstandard

from executor.engine.snapshots import CODEC, REDUCER, Snapshot, pack, unpack
from executor.workflow.state import Broken, Done, Retrying, RunState, Skipped

STATE = RunState(
    "w",
    "00",
    UUID(int=1),
    1.0,
    1.0,
    version=4,
    nodes={"a": Done({"x": [1, None, "é"]}, 1), "b": Skipped("if"), "c": Retrying(2, 9.5), "d": Broken(1, "no")},
)
SNAPSHOT = Snapshot(CODEC, REDUCER, UUID(int=2), (7, 8), STATE)


def test_a_snapshot_comes_back_as_it_was() -> None:
    assert unpack(pack(SNAPSHOT)) == SNAPSHOT


@pytest.mark.parametrize("other", [{"codec": CODEC + 1}, {"reducer": REDUCER + 1}])
def test_another_codec_or_fold_is_none(other: dict[str, int]) -> None:
    assert unpack(pack(msgspec.structs.replace(SNAPSHOT, **other))) is None


def test_whatever_is_cut_or_changed_is_none() -> None:
    data = pack(SNAPSHOT)
    assert all(unpack(data[:length]) is None for length in range(len(data)))
    assert all(unpack(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) is None for at in range(len(data)))


def test_what_is_whole_and_not_a_snapshot_is_none() -> None:
    import zlib  # noqa: PLC0415

    inner = zstandard.ZstdCompressor().compress(msgspec.msgpack.encode({"not": "one"}))
    assert unpack(zlib.crc32(inner).to_bytes(4, "big") + inner) is None
