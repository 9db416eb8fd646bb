"""What `headrace replay` says of a batch, by how many items it has."""

from __future__ import annotations

import uuid

import msgspec
import pytest

from events.replay import Replay
from executor.cli.replay import _fault


def asked(items: int) -> Replay:
    one = Replay(id=uuid.uuid4(), delivery_id=uuid.uuid4(), run_id=None, workflow=None)
    return msgspec.structs.replace(
        one, items=tuple(msgspec.structs.replace(one, id=uuid.uuid4()) for _ in range(items))
    )


@pytest.mark.parametrize(
    ("items", "late", "parked", "unwanted"),
    [
        (0, "took the replay within", "the delivery was parked", "wants this delivery now"),
        (1, "took the replay within", "the delivery was parked", "wants the one item now"),
        (3, "took 3 of the 3 items within", "1 of the 3 items was parked", "wants any of the 3 items now"),
    ],
)
def test_a_batch_is_counted_as_people_count(items: int, late: str, parked: str, unwanted: str) -> None:
    replay = asked(items)
    first, *others = [part.id for part in replay.parts]
    said = [
        _fault(replay, {}, [], 5.0),
        _fault(replay, {first: {"reason": "why"}} | {id: {} for id in others}, [], 5.0),
        _fault(replay, {part.id: {} for part in replay.parts}, [], 5.0),
    ]
    for fault, expected in zip(said, (late, parked, unwanted), strict=True):
        assert expected in (fault or "")
