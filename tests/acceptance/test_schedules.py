"""A workflow that the clock starts, through real processes: applied, fired by two relays, carried out by a worker."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from events import log
from tests.acceptance.test_control import typed
from tests.acceptance.test_executor import ends, outputs
from tests.system import System, until

pytestmark = pytest.mark.anyio

WEEKLY = """
workflow: weekly
on:
  - schedule: "0 7 * * 1"
    tz: Europe/Berlin
nodes:
  note:
    uses: transform
    with: {value: "${{ event.body }}"}
---
workflow: other
on:
  - schedule: "0 7 * * 1"
nodes:
  note: {uses: transform, with: {value: 1}}
"""
MISSED = "UPDATE schedule SET next_at = '2024-04-01 05:00:00Z' WHERE workflow = 'weekly' AND next_at > now()"


async def test_a_missed_time_starts_its_workflow_once(system: System, tmp_path: Path) -> None:
    file = tmp_path / "weekly.yaml"
    file.write_text(WEEKLY)
    await typed(system, "apply", str(file))
    assert await system.count("SELECT count(*) FROM schedule WHERE next_at > now()") == 2
    relays = [system.relay(), system.relay()]
    for process in (*relays, worker := system.worker()):
        await process.says("worker.started" if process is worker else "relay.started")
    await system.database.fetch(MISSED)
    found: list[UUID] = []

    async def there() -> bool:
        found[:] = [run.id for run in await log.runs(system.database)]
        return bool(found)

    await until(there, "the run is there")
    assert (await ends(system, found[0])).status == "completed"
    await system.until_quiet()
    (run,) = await log.runs(system.database)
    assert run.workflow == "weekly"
    body = (await outputs(system, run.id))["note"]
    assert (body["workflow"], body["tz"]) == ("weekly", "Europe/Berlin")
    assert "T07:00:00+0" in body["scheduled_for"]
    assert body["missed"] > 50
    await typed(system, "apply", str(file))
    assert await system.count("SELECT count(*) FROM schedule WHERE next_at > now()") == 2
    assert await system.count("SELECT count(*) FROM event WHERE type = 'delivery.received'") == 1
