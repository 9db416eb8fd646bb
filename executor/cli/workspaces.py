"""`headrace workspaces`: whose work there is, and how much of each may be done at once."""

from __future__ import annotations

import asyncio
import re

import rich_click as click

from events import workspaces as rows
from events.workspaces import TIERS, Workspace
from executor.cli.common import operator, print_json, settings_of, table

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON, with stable field names.")
_concurrency = click.option(
    "--concurrency", type=click.IntRange(min=1), help="Its own limit of runs at once, instead of its tier's."
)


@click.group()
def workspaces() -> None:
    """List workspaces, make them, and say how much each may do at once."""


@workspaces.command("list")
@_json
def list_all(*, as_json: bool) -> None:
    """List the workspaces: how many runs each has going, may have, and has waiting."""

    async def read() -> list[Workspace]:
        async with operator(settings_of()) as database:
            return await rows.workspaces(database)

    found = asyncio.run(read())
    if as_json:
        for one in found:
            print_json(one)
        return
    headers = ["WORKSPACE", "TIER", "RUNNING", "OF", "WAITING"]
    click.echo(table(headers, [(one.slug, one.tier, one.running, one.concurrency, one.waiting) for one in found]))


@workspaces.command()
@click.argument("name")
@click.option("--tier", type=click.Choice(list(TIERS)), default="free", show_default=True)
@_concurrency
def add(*, name: str, tier: str, concurrency: int | None) -> None:
    """Make a workspace; `headrace apply --workspace NAME` gives it sources and workflows."""
    if not _NAME.fullmatch(name):
        raise click.BadParameter(f"name: expected 1 to 64 of a-z, 0-9 and - inside, got {name!r}")

    async def make() -> int:
        async with operator(settings_of()) as database:
            return await rows.add(database, name, tier, concurrency)

    click.echo(f"workspace {name} has the id {asyncio.run(make())}")


@workspaces.command("set")
@click.argument("name")
@click.option("--tier", type=click.Choice(list(TIERS)), required=True)
@_concurrency
def change(*, name: str, tier: str, concurrency: int | None) -> None:
    """Give a workspace another tier or limit. What runs above a lower one goes on; nothing new starts until it fits."""

    async def store() -> None:
        async with operator(settings_of()) as database:
            await rows.change(database, name, tier, concurrency)

    asyncio.run(store())
    limit = concurrency or TIERS[tier]
    click.echo(f"workspace {name}: " + (f"{limit} runs at once" if limit else "no limit of runs at once"))
