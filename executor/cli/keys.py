"""`headrace keys`: who may ask the console what."""

from __future__ import annotations

import asyncio

import rich_click as click

from events import api_keys
from events.api_keys import ApiKey, Role
from events.settings import parse_duration
from events.workspaces import workspace_id
from executor.cli.common import in_workspace, moment, operator, print_json, settings_in, table

_json = click.option("--json", "as_json", is_flag=True, help="As JSON, with stable field names.")


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys of a workspace."""


@keys.command()
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), default="viewer", show_default=True)
@click.option("--expires-in", metavar="TIME", help="For how long it is valid, such as 90d; for ever unless said.")
@in_workspace
def add(*, name: str, role: str, expires_in: str | None, workspace: str | None) -> None:
    """Make a key and print it. This is the only time that anybody sees it.

    A viewer looks, an operator also starts and steers runs, an admin also publishes workflows and sees the
    installation.
    """
    settings = settings_in(workspace)
    if not 1 <= len(name) <= 100:
        raise click.BadParameter(f"name: expected 1 to 100 characters, got {len(name)}")
    try:
        lifetime = None if expires_in is None else parse_duration(expires_in)
    except ValueError as error:
        raise click.BadParameter(f"--expires-in: {error}") from None

    async def make() -> str:
        async with operator(settings) as database:
            own = await workspace_id(database, settings.workspace)
            return await api_keys.add(database, own, name, Role(role), lifetime)

    click.echo(asyncio.run(make()))
    click.echo(f"{role} of workspace {settings.workspace}; keep it: it is not shown again", err=True)


@keys.command("list")
@_json
def list_all(*, as_json: bool) -> None:
    """List the keys of all workspaces, never their text."""

    async def read() -> list[ApiKey]:
        async with operator(settings_in(None)) as database:
            return await api_keys.listed(database)

    found = asyncio.run(read())
    if as_json:
        for one in found:
            print_json(one)
        return
    headers = ["WORKSPACE", "NAME", "ROLE", "KEY", "MADE", "LAST USED", "STATE"]
    click.echo(table(headers, [_row(one) for one in found]))


@keys.command()
@click.argument("name")
@in_workspace
def revoke(*, name: str, workspace: str | None) -> None:
    """Make a key invalid, at once and for good."""
    settings = settings_in(workspace)

    async def end() -> None:
        async with operator(settings) as database:
            await api_keys.revoke(database, await workspace_id(database, settings.workspace), name)

    asyncio.run(end())
    click.echo(f"{name} is revoked", err=True)


def _row(one: ApiKey) -> tuple[object, ...]:
    state = "revoked" if one.revoked_at is not None else "valid"
    if one.expires_at is not None and one.revoked_at is None:
        state = f"until {moment(one.expires_at)}"
    used = "-" if one.last_used_at is None else moment(one.last_used_at)
    return one.workspace, one.name, one.role.value, f"hrk_{one.prefix}_…", moment(one.created_at), used, state
