"""`headrace workflows list`, `show`, `schema`: what was applied, how it hangs together, what editors need."""

from __future__ import annotations

import asyncio

import msgspec
import rich_click as click

from events import definitions
from events.database import Database
from events.definitions import VersionRow, WorkflowRow
from events.errors import HeadraceError, NotFound
from events.workspaces import workspace_id
from executor.cli.common import in_workspace, moment, operator, print_json, settings_in, settings_of, table
from executor.engine.registry import Registry
from executor.workflow.drawing import as_svg, as_text
from executor.workflow.editor_schema import encoded
from executor.workflow.graph import compile_workflow, parse_workflow
from executor.workflow.wording import did_you_mean

_json = click.option("--json", "as_json", is_flag=True, help="As JSON, with stable field names.")


@click.group()
def workflows() -> None:
    """Look at workflows: those that were applied, their versions, their graphs."""


@workflows.command("list")
@in_workspace
@_json
def list_all(*, workspace: str | None, as_json: bool) -> None:
    """List the workflows of a workspace in their current versions."""
    settings = settings_in(workspace)

    async def read() -> list[WorkflowRow]:
        async with operator(settings) as database:
            own = await workspace_id(database, settings.workspace)
            return sorted(await definitions.workflows(database, own), key=lambda row: row.name)

    rows = asyncio.run(read())
    if as_json:
        for row in rows:
            print_json({"name": row.name, "hash": row.hash.hex()})
    elif rows:
        shown = [(row.name, row.hash.hex()[:16], len(row.document.get("nodes", ()))) for row in rows]
        click.echo(table(("WORKFLOW", "VERSION", "NODES"), shown))
    else:
        click.echo("no workflows; `headrace apply FILE` makes some", err=True)


@workflows.command()
@click.argument("name")
@click.option("--graph", is_flag=True, help="Draw its graph as text.")
@click.option("--svg", is_flag=True, help="Draw its graph as SVG.")
@click.option("--version", "hash", metavar="HASH", help="Not the current version but this one (or its beginning).")
@in_workspace
@_json
def show(*, name: str, graph: bool, svg: bool, hash: str | None, workspace: str | None, as_json: bool) -> None:
    """Show a workflow: its versions, how many runs go on with each, and its document; or draw its graph."""
    settings = settings_in(workspace)

    async def read() -> tuple[WorkflowRow, list[VersionRow]]:
        async with operator(settings) as database:
            return await _found(database, await workspace_id(database, settings.workspace), name, hash)

    row, versions = asyncio.run(read())
    if graph or svg:
        specs = Registry.load(settings.node_modules).specs()
        compiled = compile_workflow(parse_workflow(row.document, specs), row.hash)
        click.echo(as_svg(compiled) if svg else as_text(compiled))
    elif as_json:
        listed = [{**msgspec.structs.asdict(one), "hash": one.hash.hex()} for one in versions]
        print_json({"name": name, "hash": row.hash.hex(), "document": row.document, "versions": listed})
    else:
        shown = [(one.hash.hex()[:16], moment(one.applied_at), one.open, "current" * one.current) for one in versions]
        click.echo(table(("VERSION", "FIRST APPLIED", "OPEN RUNS", ""), shown))
        click.echo(msgspec.json.format(msgspec.json.encode(row.document), indent=2).decode())


@workflows.command()
def schema() -> None:
    """Print the JSON Schema of a workflow document, with this installation's node types, for editors and forms."""
    specs = Registry.load(settings_of_nodes()).specs()
    click.echo(encoded(specs).decode())


def settings_of_nodes() -> tuple[str, ...]:
    """The node modules of the settings; none where there are no settings to speak of."""
    try:
        return tuple(settings_of().node_modules)
    except HeadraceError:
        return ()


async def _found(
    database: Database, workspace: int, name: str, hash: str | None
) -> tuple[WorkflowRow, list[VersionRow]]:
    versions = await definitions.versions(database, name, workspace)
    if not versions:
        names = [row.name for row in await definitions.workflows(database, workspace)]
        raise NotFound(f"no workflow {name!r}{did_you_mean(name, names)}; `headrace workflows list` lists them")
    fitting = [one for one in versions if (one.hash.hex().startswith(hash.lower()) if hash else one.current)]
    if len(fitting) != 1:
        raise HeadraceError(f"version {hash}: expected one, got {len(fitting)}; `headrace workflows show {name}`")
    row = await definitions.workflow_version(database, fitting[0].hash)
    assert row is not None
    return row, versions
