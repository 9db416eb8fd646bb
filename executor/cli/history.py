"""`headrace events` and `headrace runs`: lists, and all that ever happened to one delivery or in one run.

The log is the only thing that is read, by whoever may read it; nothing is changed. `--json` gives a line for
each entry of a list, and one document for a single delivery or run.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn
from uuid import UUID

import rich_click as click

from events import lists, log
from events.database import Database
from events.errors import NotFound
from events.lists import DeliveryState
from executor.cli import histories, listings
from executor.cli.common import Id, operator, print_json, settings_of

STATUSES = ("running", "waiting", "paused", "completed", "failed", "cancelled", "parked")

_limit = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at most."
)
_before = click.option("--before", type=Id(), help="Only those before this id: the last one of the page before.")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON, with stable field names.")


@click.command()
@click.argument("id", required=False, type=Id())
@click.option("--state", type=click.Choice([state.value for state in DeliveryState]), help="Only those in this state.")
@click.option("--source", metavar="SLUG", help="Only those of this source.")
@click.option("--type", metavar="TYPE", help="Only those of this type; * stands for anything.")
@_limit
@_before
@click.option("--headers", is_flag=True, help="With the headers of the request (credentials are not kept).")
@click.option("--body", is_flag=True, help="With the body of the request.")
@_json
def events(
    *,
    id: UUID | None,
    state: str | None,
    source: str | None,
    type: str | None,
    limit: int,
    before: UUID | None,
    headers: bool,
    body: bool,
    as_json: bool,
) -> None:
    """List the newest deliveries, or show all that happened to one.

    A batch is listed, and so is each of its items.
    """

    async def show(database: Database) -> None:
        if id is None:
            wanted = DeliveryState(state) if state is not None else None
            found = await lists.deliveries(database, limit=limit, before=before, state=wanted, source=source, type=type)
            listings.show_deliveries(found, as_json)
            return
        history = await histories.delivery_history(database, id)
        if history is None:
            await _no_delivery(database, id)
        if as_json:
            print_json(histories.delivery_document(history, headers=headers, body=body))
        else:
            click.echo(listings.delivery_text(history, headers=headers, body=body))

    asyncio.run(_with_log(show))


@click.command()
@click.argument("id", required=False, type=Id())
@click.option("--status", type=click.Choice(STATUSES), help="Only runs with this status.")
@click.option("--workflow", metavar="NAME", help="Only runs of this workflow.")
@_limit
@_before
@_json
def runs(
    *,
    id: UUID | None,
    status: str | None,
    workflow: str | None,
    limit: int,
    before: UUID | None,
    as_json: bool,
) -> None:
    """List the newest runs, or show all that happened in one."""

    async def show(database: Database) -> None:
        if id is None:
            found = await log.runs(database, limit=limit, before=before, status=status, workflow=workflow)
            listings.show_runs(found, as_json)
            return
        history = await histories.run_history(database, id)
        if history is None:
            await _no_run(database, id)
        if as_json:
            print_json(histories.run_document(history))
        else:
            click.echo(listings.run_text(history))

    asyncio.run(_with_log(show))


async def _with_log(show: Any) -> None:
    async with operator(settings_of()) as database:
        await show(database)


async def _no_delivery(database: Database, id: UUID) -> NoReturn:
    hint = f"it is a run: headrace runs {id}" if await log.run(database, id) else "`headrace events` lists them"
    raise NotFound(f"no delivery has the id {id}; {hint}")


async def _no_run(database: Database, id: UUID) -> NoReturn:
    hint = f"it is a delivery: headrace events {id}" if await log.stream(database, id) else "`headrace runs` lists them"
    raise NotFound(f"no run has the id {id}; {hint}")
