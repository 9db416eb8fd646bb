"""Synchronous nodes: killed at their timeout, alone in their death, gone with their parent."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from executor import NodeContext
from executor.engine.processes import KillablePool
from executor.engine.registry import Registry
from executor.workflow.outcomes import Completed, Failed, Outcome
from tests.unit.engine import sample_nodes

pytestmark = pytest.mark.anyio
RUN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
LONG = 60.0
SAMPLES = sample_nodes.__name__


@pytest.fixture
async def pool() -> AsyncIterator[KillablePool]:
    pool = KillablePool(1, [SAMPLES])
    yield pool
    await pool.aclose()


async def call(pool: KillablePool, uses: str, inputs: dict[str, Any], seconds: float = LONG) -> Outcome:
    context = NodeContext(RUN, "orders", "step", 3, 1_000.0)
    return await pool.run(Registry.load([SAMPLES])[uses], context, inputs, seconds)


async def output(pool: KillablePool, value: Any = None) -> dict[str, Any]:
    outcome = await call(pool, "sample.sync", {"value": value})
    assert isinstance(outcome, Completed)
    return dict(outcome.output)


async def until(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.005)


async def test_a_call_comes_back_with_its_context(pool: KillablePool) -> None:
    result = await output(pool, {"deep": [1, 2.5, None, "é"]})
    assert result["value"] == {"deep": [1, 2.5, None, "é"]}
    assert result["pid"] != os.getpid()
    assert (result["attempt"], result["key"]) == (
        3,
        NodeContext(RUN, "orders", "step", 1, 0.0).idempotency_key,
    )
    assert result["deadline"] >= 1_000.0


async def test_a_process_serves_many_calls(pool: KillablePool) -> None:
    assert (await output(pool))["pid"] == (await output(pool))["pid"]


async def test_an_endless_loop_ends_at_its_timeout_and_the_next_call_works(pool: KillablePool, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    outcome = await call(pool, "sample.spin", {"started": str(mark)}, 1.0)
    assert isinstance(outcome, Failed)
    assert outcome.kind == "timeout"
    assert (await output(pool))["pid"] != int(mark.read_text())


async def test_a_node_that_ignores_signals_ends_at_its_timeout(pool: KillablePool, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    running = asyncio.create_task(call(pool, "sample.spin", {"started": str(mark), "deaf": True}, 1.0))
    await until(mark)
    gone = os.pidfd_open(int(await _text(mark)))
    outcome = await running
    assert isinstance(outcome, Failed)
    assert outcome.kind == "timeout"
    await asyncio.to_thread(select.select, [gone], [], [])
    os.close(gone)


@pytest.mark.parametrize(
    ("how", "epitaph"), [("exit_0", "exit code 0"), ("exit_7", "exit code 7"), ("kill", "SIGKILL")]
)
async def test_a_process_that_dies_fails_its_call_and_the_pool_goes_on(
    pool: KillablePool, how: str, epitaph: str
) -> None:
    assert await call(pool, "sample.die", {"how": how}) == Failed("process", f"sample.die: its process died: {epitaph}")
    assert (await output(pool, 1))["value"] == 1


async def test_a_process_that_dies_idle_fails_nothing(pool: KillablePool) -> None:
    pid = (await output(pool))["pid"]
    gone = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(select.select, [gone], [], [])
    os.close(gone)
    while (again := await call(pool, "sample.sync", {"value": 1})) == Failed(
        "process", "sample.sync: its process died: SIGKILL"
    ):
        pass  # the loop may not have seen the pipe close yet: then it is one failure, and never a second
    assert isinstance(again, Completed)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("node", Failed("quota", "no more today", 60.0)),
        ("exit", Failed("error", "SystemExit: 0")),
        ("odd", Failed("error", "_Unpicklable: neither survives pickling")),
    ],
)
async def test_what_a_node_raises_comes_back_as_its_kind(pool: KillablePool, kind: str, expected: Failed) -> None:
    assert await call(pool, "sample.sync_raise", {"kind": kind}) == expected


async def test_the_wait_for_a_process_does_not_count(pool: KillablePool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    holding = asyncio.create_task(call(pool, "sample.hold", {"path": str(gate)}))
    await until(tmp_path / "gate.running")
    # The first call holds the only process for longer than the second one's timeout.
    waiting = asyncio.create_task(call(pool, "sample.sync", {"value": 1}, 2.0))
    done, _ = await asyncio.wait({waiting}, timeout=2.2)
    assert not done
    gate.touch()
    assert await holding == Completed("held")
    outcome = await waiting
    assert isinstance(outcome, Completed)
    assert outcome.output["deadline"] > 1_002.0  # the deadline moved with it


async def test_cancelling_a_call_kills_its_process(pool: KillablePool, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    task = asyncio.create_task(call(pool, "sample.spin", {"started": str(mark)}))
    await until(mark)
    gone = os.pidfd_open(int(mark.read_text() or await _text(mark)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(select.select, [gone], [], [])  # readable when it has ended
    os.close(gone)
    assert (await output(pool, 1))["value"] == 1


async def _text(path: Path) -> str:
    while not (text := path.read_text()):
        await asyncio.sleep(0.005)
    return text


async def test_a_module_that_cannot_be_imported_is_said() -> None:
    pool = KillablePool(1, ["no.such.module"])
    outcome = await call(pool, "sample.sync", {"value": 1})
    assert isinstance(outcome, Failed)
    assert outcome.kind == "process"
    assert "No module named 'no'" in outcome.message
    await pool.aclose()


async def test_inputs_that_cannot_cross_fail_as_input(pool: KillablePool) -> None:
    outcome = await call(pool, "sample.sync", {"value": object()})
    assert isinstance(outcome, Failed)
    assert outcome.kind == "input"


async def test_a_process_ignores_ctrl_c(pool: KillablePool) -> None:
    assert await call(pool, "sample.signals", {}) == Completed({"ignores_sigint": True})


PARENT = """
import asyncio, sys
from uuid import UUID
from executor import NodeContext
from executor.engine.processes import KillablePool
from executor.engine.registry import node_type
from tests.unit.engine.sample_nodes import spin

async def main() -> None:
    context = NodeContext(UUID(int=1), "w", "n", 1, 0.0)
    await KillablePool(1).run(node_type(spin), context, {"started": sys.argv[1]}, 600.0)

asyncio.run(main())
"""


STUCK = """
import asyncio, os, sys, uvloop
from pathlib import Path
from uuid import UUID
from executor import NodeContext
from executor.engine.processes import KillablePool
from executor.engine.registry import node_type
from tests.unit.engine.sample_nodes import spin

async def main() -> None:
    pool, mark = KillablePool(1), Path(sys.argv[1])
    context = NodeContext(UUID(int=1), "w", "n", 1, 0.0)
    call = asyncio.create_task(pool.run(node_type(spin), context, {"started": sys.argv[1]}, 600.0))
    while not mark.exists() or not mark.read_text():
        await asyncio.sleep(0.005)
    pool.kill_now()  # nothing is awaited from here on: this is the stuck loop
    try:
        os.kill(int(mark.read_text()), 0)
    except ProcessLookupError:
        os._exit(7)
    os._exit(8)

uvloop.run(main())
"""


def test_all_processes_can_be_killed_and_collected_while_the_loop_is_stuck(tmp_path: Path) -> None:
    """Not even a zombie is left: the program that takes this process over would not know it."""
    command = [sys.executable, "-c", STUCK, str(tmp_path / "started")]
    assert subprocess.run(command, cwd=Path(__file__).parents[3], check=False).returncode == 7


async def test_a_busy_process_does_not_outlive_its_parents_sigkill(tmp_path: Path) -> None:
    mark = tmp_path / "started"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(mark)], cwd=Path(__file__).parents[3])
    await until(mark)
    gone = os.pidfd_open(int(await _text(mark)))
    parent.kill()
    await asyncio.to_thread(parent.wait)
    await asyncio.to_thread(select.select, [gone], [], [])
    os.close(gone)
