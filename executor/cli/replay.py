"""`headrace replay`: takes a delivery, or the delivery of a run, through its workflows again.

Only ids of new runs go to stdout, one per line; all else to stderr. Status 0 means that there is a new run.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

import rich_click as click

from events.database import Database
from events.errors import HeadraceError
from events.replay import Replay, outcome
from events.replay import replay as ask
from events.settings import Settings, parse_duration
from events.types import REPLAY_QUEUE
from executor.cli.acting import actor, ring
from executor.cli.common import Id, operator, print_json, settings_of

LOOK = 0.05
"""Seconds between two looks at whether the replay was routed."""


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("id", type=Id())
@click.option("--reason", metavar="TEXT", help="Why; it is kept in the delivery's history.")
@click.option("--wait", type=_Duration(), default="10s", show_default=True, help="How long to wait for a worker.")
@click.option("--json", "as_json", is_flag=True, help="One document: id, delivery_id, runs, passed_over, …")
def replay(id: UUID, reason: str | None, wait: float, as_json: bool) -> None:
    """Take a delivery, or a run, through its workflows again.

    ID is a delivery's (all workflows that want it) or a run's (that run's workflow alone). Prints the ids of
    the new runs.
    """
    asked, came = asyncio.run(_replay(settings_of(), id, reason, wait))
    if as_json:
        print_json({**_fields(asked), "routed": came is not None, **(came or {})})
    started: list[dict[str, str]] = (came or {}).get("runs", [])
    if not as_json:
        for run in started:
            click.echo(run["id"])
    if came is None:
        raise HeadraceError(
            f"no worker took the replay within {wait:g} s; it will run when one serves {REPLAY_QUEUE}"
            f" (replay {asked.id}; headrace events {asked.delivery_id} shows it)"
        )
    if "reason" in came:
        raise HeadraceError(f"the delivery was parked instead: {came['reason']}")
    if not started:
        said = "".join(f"; {one['workflow']}: {one['reason']}" for one in came.get("passed_over", ()))
        raise HeadraceError(f"no workflow wants this delivery now, so nothing was started{said}")
    if not as_json:
        names = ", ".join(run["workflow"] for run in started)
        click.echo(f"replayed by {names}; headrace runs {started[0]['id']} shows how it goes", err=True)


async def _replay(
    settings: Settings, id: UUID, reason: str | None, wait: float
) -> tuple[Replay, dict[str, Any] | None]:
    """What was asked for, and what its routing said; None if it was not routed in time."""
    async with operator(settings) as database:
        asked = await ask(database, id, actor=actor(), reason=reason)
        await asyncio.to_thread(ring, settings.redis_url, REPLAY_QUEUE)
        return asked, await _until_routed(database, asked, wait)


async def _until_routed(database: Database, asked: Replay, wait: float) -> dict[str, Any] | None:
    deadline = time.monotonic() + wait
    while (came := await outcome(database, asked)) is None and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(LOOK)  # it happens in another process
    return came


def _fields(asked: Replay) -> dict[str, Any]:
    return {
        "id": asked.id,
        "delivery_id": asked.delivery_id,
        "run_id": asked.run_id,
        "workflow": asked.workflow,
    }
