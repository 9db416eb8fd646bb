"""A node blocks its worker's event loop: the process is replaced, and only the run that blocked has an attempt counted.

The lease is long here: only the watchdog can hand the runs over this soon.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from executor.worker.watchdog import STALLED
from tests.system import Process, System, chain, until

pytestmark = pytest.mark.anyio
LIMITS = {"HEADRACE_LEASE": "600", "HEADRACE_LOOP_STALL": "0.8", "HEADRACE_MAX_RECOVERIES": "2"}
WAITS, BLOCKS = b'{"seconds": 0}', b'{"seconds": 600}'


async def begin(system: System, bodies: list[bytes], stall: str = "0.8") -> tuple[Process, Path]:
    """A worker that holds a run for each body; the gate opens those that wait, and lets those block that block."""
    gate = system.directory / "gate"
    more = {"file": f"${{{{ event.body.seconds == 0 ? '{gate}' : '{gate}.block' }}}}"}
    await system.apply(chain(system.record, "only", uses="test.block", seconds="${{ event.body.seconds }}", **more))
    await system.ingest()
    system.relay()
    worker = system.worker(more=LIMITS | {"HEADRACE_LOOP_STALL": stall})
    await worker.says("worker.started")
    for number, body in enumerate(bodies):
        await system.deliver(body, id=str(number))

    async def all_held() -> bool:
        return len(system.recorded()) == len(bodies)

    await until(all_held, "the worker holds all runs")
    return worker, gate


async def test_a_blocked_worker_is_replaced_and_only_what_blocked_is_to_blame(system: System) -> None:
    worker, gate = await begin(system, [WAITS, WAITS, BLOCKS, WAITS, WAITS])
    pid = worker.pid
    gate.with_name("gate.block").touch()

    async def parked() -> bool:
        return await system.count("SELECT count(*) FROM run WHERE status = 'parked'") == 1

    await until(parked, "the run that blocks is parked")

    async def held() -> bool:
        return await system.count("SELECT count(*) FROM work_item WHERE owner IS NOT NULL") == 4

    await until(held, "its neighbours are held by the second new process")
    assert await system.count("SELECT max(attempt) FROM work_item") == 1, "none of them had its attempt counted"
    error = await system.database.fetchval("SELECT error FROM run WHERE status = 'parked'")
    assert "claimed 2 times without progress" in error
    assert "node 'only' (test.block) blocked its worker's event loop" in error
    assert "plain `def`" in error
    gate.touch()
    await system.until_quiet()
    rows = await system.database.fetch("SELECT status, count(*) FROM run GROUP BY status ORDER BY status")
    assert [tuple(row) for row in rows] == [("completed", 4), ("parked", 1)]
    calls = Counter(run for run, *_ in system.recorded())
    blocks = await system.database.fetchval("SELECT id FROM run WHERE status = 'parked'")
    assert calls[str(blocks)] == 2, "it is not called a third time"
    log = worker.log.read_text()
    assert log.count('"worker.started"') == 3
    assert log.count('"loop.stalled"') == 2
    assert "time.sleep(seconds)" in log, "where it blocked is said"
    assert worker.pid == pid
    await worker.finishes()


async def test_a_blocked_worker_that_is_to_end_gives_back_and_ends(system: System) -> None:
    worker, gate = await begin(system, [WAITS, BLOCKS])
    worker.send(signal.SIGTERM)
    await worker.says("worker.draining")
    gate.with_name("gate.block").touch()
    assert await worker.fails() == STALLED
    held = "SELECT count(*) FROM work_item WHERE owner IS NOT NULL"
    assert await system.count(held) == 0
    assert await system.count("SELECT count(*) FROM work_item WHERE attempt = 0 AND error IS NULL") == 1
    assert await system.count("SELECT count(*) FROM work_item WHERE attempt = 1 AND error LIKE '%test.block%'") == 1


async def test_a_node_that_holds_the_interpreter_ends_its_process_with_its_stack_in_the_log(system: System) -> None:
    await system.apply(chain(system.record, "only", uses="test.backtrack"))
    await system.ingest()
    system.relay()
    worker = system.worker(more=LIMITS | {"HEADRACE_LEASE": "3"})
    await system.deliver()
    await worker.dies(by=signal.SIGPROF)
    log = worker.log.read_text()
    assert f'File "{os.path.abspath("tests/nodes.py")}", line' in log
    assert "in backtrack" in log


async def test_a_block_that_ends_is_a_warning(system: System) -> None:
    worker, gate = await begin(system, [WAITS, b'{"seconds": 1.6}'], stall="300")
    gate.with_name("gate.block").touch()
    gate.touch()
    await system.until_quiet()
    assert await system.count("SELECT count(*) FROM run WHERE status = 'completed'") == 2
    said = await worker.says("loop.blocked")
    assert (said["uses"], said["node"]) == ("test.block", "only")
    assert worker.log.read_text().count('"loop.blocked"') == 1
