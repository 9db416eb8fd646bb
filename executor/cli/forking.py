"""`headrace fork` and `headrace rerun`: new runs from old ones.

The id of the new run goes to stdout. Old runs stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import rich_click as click
from msgspec import UNSET

from events import definitions, log
from events.control import Start, start
from events.database import Database
from events.definitions import WorkflowRow
from events.effects import NewRun
from events.errors import HeadraceError, NotFound
from events.ids import uuid7
from events.run_types import NewEvent
from events.settings import Settings
from executor.cli.acting import ring
from executor.cli.common import Id, operator, settings_of
from executor.engine.registry import Registry
from executor.workflow.facts import RunFact, RunStarted, decode, encode
from executor.workflow.forking import kept
from executor.workflow.graph import Graph, compile_workflow, parse_workflow
from executor.workflow.inputs import check_input


@click.command()
@click.argument("id", type=Id())
@click.option("--from", "node", metavar="NODE", required=True, help="Where it begins: this node and all behind it.")
@click.option("--latest", is_flag=True, help="With the workflow's current version, not the one that the run had.")
@click.option("--version", "hash", metavar="HASH", help="With this version (its hash, or the beginning of it).")
def fork(*, id: UUID, node: str, latest: bool, hash: str | None) -> None:
    """Start a new run from a node of an old one, with the old one's results before it."""
    if latest and hash:
        raise click.UsageError("expected --latest or --version, got both")
    asyncio.run(_fork(settings_of(), id, node, latest, hash))


@click.command()
@click.argument("id", type=Id())
@click.option("--body", metavar="JSON", help="The delivery's body in its place: JSON, or @FILE.")
@click.option("--input", metavar="JSON", help="The run's input in its place: JSON, or @FILE.")
def rerun(*, id: UUID, body: str | None, input: str | None) -> None:
    """Start a run's workflow again, in its current version, with an edited body or input.

    The delivery in the log stays as it came. `headrace replay` repeats it unchanged.
    """
    edited = UNSET if body is None else _json("--body", body)
    given = UNSET if input is None else _json("--input", input)
    asyncio.run(_rerun(settings_of(), id, edited, given))


def _json(option: str, text: str) -> Any:
    try:
        raw = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return msgspec.json.decode(raw)
    except OSError as error:
        raise click.UsageError(f"{option}: expected a file that can be read, got: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise click.UsageError(f"{option}: expected JSON, got: {error}") from None


async def _fork(settings: Settings, id: UUID, node: str, latest: bool, hash: str | None) -> None:
    async with operator(settings) as database:
        facts, started = await _history(database, id)
        workspace = await log.workspace_of(database, id)
        graph = _graph(
            settings,
            await _version(database, workspace, started.workflow, None if latest else hash or started.workflow_hash),
        )
        new = msgspec.structs.replace(_anew(started, graph, database), replay_of=started.replay_of, fork_of=id)
        await _start(settings, database, workspace, graph, new, [*kept(facts, graph, node)])


async def _rerun(settings: Settings, id: UUID, edited: Any, given: Any) -> None:
    async with operator(settings) as database:
        _, started = await _history(database, id)
        workspace = await log.workspace_of(database, id)
        graph = _graph(settings, await _version(database, workspace, started.workflow, None))
        new = msgspec.structs.replace(_anew(started, graph, database), fork_of=id)
        if edited is not UNSET:
            new = msgspec.structs.replace(new, edited=edited)
        if given is not UNSET:
            check_input(graph, given)
            new = msgspec.structs.replace(new, input=given)
        await _start(settings, database, workspace, graph, new, [])


async def _history(database: Database, id: UUID) -> tuple[list[RunFact], RunStarted]:
    events = await log.stream(database, id)
    if not events or events[0].type != "run.started":
        raise NotFound(f"no run has the id {id}; `headrace runs` lists them")
    facts = [decode(event.type, event.body or b"") for event in events]
    started = facts[0]
    assert isinstance(started, RunStarted)
    return facts, started


async def _version(database: Database, workspace: int, name: str, hash: str | None) -> WorkflowRow:
    """The version whose hash begins so; None is the current one."""
    if hash is None:
        row = await definitions.workflow(database, name, workspace)
    else:
        versions = await definitions.versions(database, name, workspace)
        found = [one for one in versions if one.hash.hex().startswith(hash.lower())]
        if len(found) > 1:
            raise HeadraceError(f"version {hash}: expected one, got {len(found)}; give more of its hash")
        row = await definitions.workflow_version(database, found[0].hash) if found else None
    if row is None:
        raise NotFound(f"workflow {name} has no such version; `headrace workflows show {name}` lists them")
    return row


def _graph(settings: Settings, row: WorkflowRow) -> Graph:
    specs = Registry.load(settings.node_modules).specs()
    return compile_workflow(parse_workflow(row.document, specs), row.hash)


def _anew(started: RunStarted, graph: Graph, database: Database) -> RunStarted:
    """As the old run began, but now, with this version, and with nobody who waits for it."""
    return RunStarted(
        workflow=graph.name,
        workflow_hash=graph.hash.hex(),
        delivery_id=started.delivery_id,
        at=database.clock.now(),
        input=started.input,
        edited=started.edited,
        deliveries=started.deliveries,
    )


async def _start(  # noqa: PLR0917
    settings: Settings, database: Database, workspace: int, graph: Graph, started: RunStarted, facts: list[RunFact]
) -> None:
    run = NewRun(
        id=uuid7(database.clock.now()),
        workflow=graph.name,
        workflow_hash=graph.hash,
        queue="high_priority",
        started=encode(started)[1],
        leased=False,
        delivery_id=started.delivery_id,
        replay_of=started.replay_of,
        fork_of=started.fork_of,
    )
    events = tuple(NewEvent(version, *encode(fact)) for version, fact in enumerate(facts, 1))
    await start(database, [Start(run, events, workspace_id=workspace)])
    with contextlib.suppress(HeadraceError):
        await asyncio.to_thread(ring, settings.redis_url, run.queue)
    click.echo(run.id)
    click.echo(f"headrace runs {run.id} shows how it goes", err=True)
