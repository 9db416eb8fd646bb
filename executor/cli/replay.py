"""`headrace replay`: takes a delivery, each item of a batch, or the delivery of a run through its workflows again.

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
from events.replay import Replay, outcomes
from events.replay import replay as ask
from events.settings import Settings, parse_duration
from events.types import REPLAY_QUEUE
from executor.cli.acting import actor, ring
from executor.cli.common import Id, operator, print_json, settings_of

Outcomes = dict[UUID, dict[str, Any]]
"""What the routing said, by the id of the replay; of a batch, of its items' replays."""

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
@click.option("--json", "as_json", is_flag=True, help="One document: id, delivery_id, runs, passed_over, items, …")
def replay(id: UUID, reason: str | None, wait: float, as_json: bool) -> None:
    """Take a delivery, or a run, through its workflows again.

    ID is a delivery's (all workflows that want it), a batch's (each of its items) or a run's (that run's workflow
    alone). Prints the ids of the new runs.
    """
    asked, came = asyncio.run(_replay(settings_of(), id, reason, wait))
    started = [run for part in asked.parts for run in came.get(part.id, {}).get("runs", ())]
    if as_json:
        print_json(_document(asked, came, started))
    else:
        for run in started:
            click.echo(run["id"])
    if fault := _fault(asked, came, started, wait):
        raise HeadraceError(fault)
    if not as_json:
        names = ", ".join(dict.fromkeys(run["workflow"] for run in started))
        click.echo(f"replayed by {names}; headrace runs {started[0]['id']} shows how it goes", err=True)


def _fault(asked: Replay, came: Outcomes, started: list[dict[str, str]], wait: float) -> str | None:
    """What did not go as it was asked for."""
    late = len(asked.parts) - len(came)
    parked = [said["reason"] for said in came.values() if "reason" in said]
    if late:
        which = f"{late} of {_items(asked)}" if len(asked.items) > 1 else "the replay"
        return (
            f"no worker took {which} within {wait:g} s; it will run when one serves {REPLAY_QUEUE}"
            f" (replay {asked.id}; headrace events {asked.delivery_id} shows it)"
        )
    if parked:
        which = f"{len(parked)} of {_items(asked)}" if len(asked.items) > 1 else "the delivery"
        return f"{which} {'was' if len(parked) == 1 else 'were'} parked instead: {parked[0]}"
    if not started:
        over = dict.fromkeys(f"; {one['workflow']}: {one['reason']}" for s in came.values() for one in _passed_over(s))
        any_of = "" if len(asked.items) == 1 else "any of "
        which = f"{any_of}{_items(asked)}" if asked.items else "this delivery"
        return f"no workflow wants {which} now, so nothing was started{''.join(over)}"
    return None


def _items(asked: Replay) -> str:
    return "the one item" if len(asked.items) == 1 else f"the {len(asked.items)} items"


async def _replay(settings: Settings, id: UUID, reason: str | None, wait: float) -> tuple[Replay, Outcomes]:
    """What was asked for, and what its routing said as far as it was routed in time."""
    async with operator(settings) as database:
        asked = await ask(database, id, actor=actor(), reason=reason)
        await asyncio.to_thread(ring, settings.redis_url, REPLAY_QUEUE)
        return asked, await _until_routed(database, asked, wait)


async def _until_routed(database: Database, asked: Replay, wait: float) -> Outcomes:
    deadline = time.monotonic() + wait
    came: Outcomes = {}
    while True:
        came |= await outcomes(database, [part for part in asked.parts if part.id not in came])
        if len(came) == len(asked.parts) or time.monotonic() >= deadline:
            return came
        await asyncio.sleep(LOOK)  # it happens in another process


def _document(asked: Replay, came: Outcomes, started: list[dict[str, str]]) -> dict[str, Any]:
    if not asked.items:
        return {**_fields(asked), "routed": bool(came), **came.get(asked.id, {})}
    items = [{**_fields(item), "routed": item.id in came, **came.get(item.id, {})} for item in asked.items]
    return {**_fields(asked), "routed": len(came) == len(items), "runs": started, "items": items}


def _passed_over(said: dict[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = said.get("passed_over", [])
    return found


def _fields(asked: Replay) -> dict[str, Any]:
    return {
        "id": asked.id,
        "delivery_id": asked.delivery_id,
        "run_id": asked.run_id,
        "workflow": asked.workflow,
    }
