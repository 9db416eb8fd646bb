"""`headrace worker --processes 2`: two workers, two again after a death, none once they or their parent are ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.system import System, chain, until

pytestmark = pytest.mark.anyio


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


async def test_several_workers_live_and_end_together(system: System) -> None:
    await system.apply(chain(system.record, "only"))
    await system.ingest()
    parent = system.process("workers", "worker", "--queue", "webhook", "--processes", "2")

    def started() -> int:
        return parent.log.read_text().count("worker.started")

    async def two() -> bool:
        return started() >= 2

    async def three() -> bool:
        return started() >= 3

    await until(two, "both have started")
    first, second = children(parent.pid)
    os.kill(first, signal.SIGKILL)
    await until(three, "the one that died is back")
    assert second in children(parent.pid)
    for number in range(4):
        await system.deliver(id=str(number))
    await system.until_quiet()
    await system.check(4, nodes=1)
    await parent.finishes()
    assert children(parent.pid) == []

    again = system.process("workers", "worker", "--queue", "webhook", "--processes", "2")
    pids: list[int] = []

    async def both() -> bool:
        pids[:] = children(again.pid)
        return again.log.read_text().count("worker.started") == 2

    async def gone() -> bool:
        return not any(Path(f"/proc/{pid}").exists() for pid in pids)

    await until(both, "both have started")
    again.kill()
    await until(gone, "they drained when their parent was killed")
