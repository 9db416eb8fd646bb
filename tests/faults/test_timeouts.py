"""A node that does not end at its timeout is left behind, and whatever it says later changes nothing."""

from __future__ import annotations

import pytest

from tests.system import System, chain, until

pytestmark = pytest.mark.anyio


async def test_the_late_result_of_a_node_that_swallows_its_cancellation_changes_nothing(system: System) -> None:
    gate = system.directory / "gate"
    await system.apply(chain(system.record, "only", uses="test.stubborn", file=str(gate)))
    await system.ingest()
    system.relay()
    worker = system.worker()
    await system.deliver()
    await system.until_quiet()
    await worker.says("node ignores its cancellation and is left behind")
    assert await system.database.fetchval("SELECT status FROM run") == "failed"
    before = await system.database.fetch("SELECT * FROM event ORDER BY position")
    gate.touch()

    async def late() -> bool:
        return [node for _, node, *_ in system.recorded()] == ["only", "late"]

    await until(late, "the node ends after all")
    await worker.finishes()  # which waits for nothing: all that is in flight in the loop has been seen to
    assert await system.database.fetch("SELECT * FROM event ORDER BY position") == before
    assert await system.count("SELECT count(*) FROM work_item") == 0
