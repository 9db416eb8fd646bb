"""`headrace limits` and `headrace usage`: what calls may cost, and what they did."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import rich_click as click

from events import costs
from events.costs import ALL, Limit, LimitRow, Usage
from events.settings import parse_duration
from events.workspaces import workspace_id
from executor.cli.common import Id, in_workspace, operator, print_json, settings_in, settings_of, span, table

_json = click.option("--json", "as_json", is_flag=True, help="As JSON, with stable field names.")
_everybody = click.option("--all", "everybody", is_flag=True, help="Of all workspaces together.")
_amount = click.FloatRange(min=0)


@click.group()
def limits() -> None:
    """Say what calls of a class (llm, search, any name) may cost, per workspace and in all."""


@limits.command("list")
@_json
def list_all(*, as_json: bool) -> None:
    """List the limits, and what of them is used."""

    async def read() -> list[LimitRow]:
        async with operator(settings_of()) as database:
            return await costs.limits(database)

    found = asyncio.run(read())
    if as_json:
        for one in found:
            print_json(one)
        return
    headers = ["CLASS", "WORKSPACE", "REQUESTS", "COST", "PER", "AT ONCE", "TODAY", "THIS MONTH"]
    click.echo(table(headers, [_row(one) for one in found]))


@limits.command("set")
@click.argument("name", metavar="CLASS")
@click.option("--requests", type=click.IntRange(min=1), help="Calls per interval.")
@click.option("--cost", type=click.FloatRange(min=0, min_open=True), help="Cost per interval.")
@click.option("--per", default="1m", show_default=True, metavar="TIME", help="The interval.")
@click.option("--concurrent", type=click.IntRange(min=1), help="Calls at once.")
@click.option("--daily", type=_amount, help="Budget of a day (UTC).")
@click.option("--monthly", type=_amount, help="Budget of a month (UTC).")
@_everybody
@in_workspace
def change(
    *,
    name: str,
    requests: int | None,
    cost: float | None,
    per: str,
    concurrent: int | None,
    daily: float | None,
    monthly: float | None,
    everybody: bool,
    workspace: str | None,
) -> None:
    """Limit the calls of a class; this replaces the limit that was there.

    Cost is counted as nodes report it: money where `price` is given, else tokens.
    """
    try:
        seconds = parse_duration(per)
    except ValueError as error:
        raise click.BadParameter(f"--per: {error}") from None
    limit = Limit(requests=requests, cost=cost, per=seconds, concurrent=concurrent, daily=daily, monthly=monthly)
    settings = settings_in(workspace)

    async def store() -> None:
        async with operator(settings) as database:
            own = ALL if everybody else await workspace_id(database, settings.workspace)
            await costs.change(database, own, name, limit)

    asyncio.run(store())


@limits.command()
@click.argument("name", metavar="CLASS")
@_everybody
@in_workspace
def remove(*, name: str, everybody: bool, workspace: str | None) -> None:
    """Take a limit away."""
    settings = settings_in(workspace)

    async def end() -> None:
        async with operator(settings) as database:
            own = ALL if everybody else await workspace_id(database, settings.workspace)
            await costs.remove(database, own, name)

    asyncio.run(end())


@click.command()
@click.option("--since", default="30d", show_default=True, metavar="TIME", help="How far back.")
@click.option("--by", type=click.Choice(["class", "workflow", "run"]), default="class", show_default=True)
@click.option("--run", "run_id", type=Id(), help="Of this run alone.")
@click.option("--workspace", metavar="NAME", help="Of this workspace alone.")
@_json
def usage(*, since: str, by: str, run_id: UUID | None, workspace: str | None, as_json: bool) -> None:
    """Show what calls with a cost class came to, the dearest first."""
    try:
        back = parse_duration(since)
    except ValueError as error:
        raise click.BadParameter(f"--since: {error}") from None

    async def read() -> list[Usage]:
        async with operator(settings_of()) as database:
            own = None if workspace is None else await workspace_id(database, workspace)
            return await costs.usage(
                database,
                time.time() - back,
                workspace_id=own,
                by_workflow=by != "class",
                by_run=by == "run" or run_id is not None,
                run_id=run_id,
            )

    found = asyncio.run(read())
    if as_json:
        for one in found:
            print_json(one)
        return
    rows = [(one.workspace, one.cls, one.workflow, one.run_id, one.calls, f"{one.cost:,.6g}") for one in found]
    click.echo(table(["WORKSPACE", "CLASS", "WORKFLOW", "RUN", "CALLS", "COST"], rows))


def _row(one: LimitRow) -> tuple[object, ...]:
    limit = one.limit
    return (
        one.cls,
        one.workspace,
        limit.requests,
        None if limit.cost is None else f"{limit.cost:g}",
        span(limit.per),
        "-" if limit.concurrent is None else f"{one.busy} of {limit.concurrent}",
        _of(one.today, limit.daily),
        _of(one.this_month, limit.monthly),
    )


def _of(used: float, budget: float | None) -> str:
    return f"{used:g}" if budget is None else f"{used:g} of {budget:g}"
