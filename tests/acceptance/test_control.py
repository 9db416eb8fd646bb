"""What people do to runs from the command line, through real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from events import log
from tests.acceptance.test_executor import begun, ends, noted, outputs, start, workflow
from tests.system import System

pytestmark = pytest.mark.anyio


async def typed(system: System, *arguments: str) -> list[str]:
    """What a command prints."""
    process = system.process("command", *arguments)
    await process.ends()
    return process.log.read_text().splitlines()


async def test_a_failed_run_goes_on_at_the_node_that_failed(system: System, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    nodes = {
        "first": {"uses": "test.record", "with": {"path": str(system.record)}},
        "second": {"uses": "test.gated", "needs": ["first"], "with": {"file": str(gate)}},
        "third": {"uses": "test.record", "needs": ["second"], "with": {"path": str(system.record)}},
    }
    await system.apply(workflow("steps", nodes))
    await start(system)
    run = await begun(system, {})
    assert (await ends(system, run)).status == "failed"
    gate.touch()
    assert str(run) in await typed(system, "retry", str(run))
    await noted(system, run, "run.completed")
    assert [line.split()[1] for line in system.record.read_text().splitlines()] == ["first", "third"]
    types = [event.type for event in await log.stream(system.database, run)]
    assert types[types.index("run.failed") + 1] == "run.reopened"
    await system.until_quiet()


async def test_runs_are_cancelled_by_filter_after_a_preview(system: System) -> None:
    await system.apply(workflow("naps", {"nap": {"uses": "wait.timer", "with": {"for": "1h"}}}))
    await start(system)
    runs = [await begun(system, {"n": n}, str(n)) for n in range(3)]
    for run in runs:
        await noted(system, run, "node.waiting")
    said = await typed(system, "cancel", "--workflow", "naps")
    assert any("--yes would cancel these 3 runs" in line for line in said)
    await typed(system, "cancel", "--workflow", "naps", "--yes")
    assert {(await ends(system, run)).status for run in runs} == {"cancelled"}
    await system.until_quiet()


async def test_a_fork_takes_over_what_came_before_and_a_rerun_takes_another_body(system: System) -> None:
    value = {"value": "${{ event.body.n + nodes.first.output }}"}
    nodes = {
        "first": {"uses": "transform", "with": {"value": 10}},
        "note": {"uses": "test.record", "needs": ["first"], "with": {"path": str(system.record)}},
        "sum": {"uses": "transform", "needs": ["first", "note"], "with": value},
    }
    await system.apply(workflow("sums", nodes))
    await start(system)
    await system.worker("high_priority").says("worker.started")
    run = await begun(system, {"n": 1})
    await ends(system, run)
    fork = UUID((await typed(system, "fork", str(run), "--from", "sum"))[0])
    await ends(system, fork)
    assert (await outputs(system, fork))["sum"] == 11
    assert len(system.record.read_text().splitlines()) == 1, "what came before was not done again"
    again = UUID((await typed(system, "rerun", str(run), "--body", '{"n": 5}'))[0])
    await ends(system, again)
    assert (await outputs(system, again))["sum"] == 15
    started: Any = msgspec.json.decode((await log.stream(system.database, again))[0].body or b"")
    assert started["fork_of"] == str(run)


async def test_a_decision_is_typed(system: System) -> None:
    await system.apply(workflow("asks", {"boss": {"uses": "wait.approval", "with": {"text": "pay?"}}}))
    await start(system)
    run = await begun(system, {})
    await noted(system, run, "node.waiting")
    await typed(system, "approve", str(run), "boss", "--reject", "--data", '{"why": "no"}')
    await ends(system, run)
    decision = (await outputs(system, run))["boss"]
    assert (decision["approved"], decision["data"]) == (False, {"why": "no"})


async def test_an_apply_shows_what_changes_and_which_runs_stay_as_they_were(system: System, tmp_path: Path) -> None:
    text = """
workflow: naps
on: [{source: hub, type: start}]
nodes:
  nap:
    uses: wait.timer
    with: {for: 1h}
"""
    file = tmp_path / "naps.yaml"
    file.write_text(text)
    await system.apply()
    await typed(system, "apply", str(file))
    await start(system)
    run = await begun(system, {})
    await noted(system, run, "node.waiting")
    file.write_text(text.replace("1h", "2h"))
    dry = await typed(system, "apply", "--dry-run", str(file))
    assert any(line.startswith("-") and "for: 1h" in line for line in dry)
    assert any(line.startswith("+") and "for: 2h" in line for line in dry)
    assert any(line.startswith("naps: 1 run stays on version") for line in dry)
    assert "unchanged" not in "".join(await typed(system, "apply", str(file))), "the dry run changed nothing"
    shown = await typed(system, "workflows", "show", "naps")
    assert [line.split()[3] for line in shown[1:3]] == ["0", "1"], "open runs, the newest version first"
    assert any("nap" in line for line in await typed(system, "workflows", "show", "naps", "--graph"))
    assert (await typed(system, "workflows", "list"))[1].startswith("naps")
    await typed(system, "cancel", str(run))
    await ends(system, run)
