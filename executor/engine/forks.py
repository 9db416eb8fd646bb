"""New runs from old ones: from a node on, with the results before it, or from the beginning with another input.

The old run stays as it is. The new one begins with a copy of the facts that it keeps; nobody waits for it.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from events import definitions, log
from events.control import Start, start
from events.database import Database
from events.definitions import WorkflowRow
from events.errors import HeadraceError, NotFound
from events.ids import uuid7
from events.runs import NewEvent, NewRun
from executor.workflow.facts import RunFact, RunStarted, decode, encode
from executor.workflow.forking import kept
from executor.workflow.graph import Graph, compile_workflow, parse_workflow
from executor.workflow.inputs import check_input


async def fork(database: Database, specs: Any, id: UUID, node: str, hash: str | None = "") -> NewRun:
    """Begins a run at a node of another.

    Args:
        specs: the node types there are.
        hash: of the version to go on with, or its beginning; "" is the old run's own, None the current one.

    Raises:
        NotFound: no such run or version.
        HeadraceError: it cannot be forked there; nothing was written.
    """
    facts, started = await _history(database, id)
    workspace = await log.workspace_of(database, id)
    wanted = started.workflow_hash if hash == "" else hash
    graph = _graph(specs, await _version(database, workspace, started.workflow, wanted))
    new = msgspec.structs.replace(_anew(started, graph, database), replay_of=started.replay_of, fork_of=id)
    return await _start(database, workspace, graph, new, [*kept(facts, graph, node)])


async def rerun(database: Database, specs: Any, id: UUID, edited: Any = UNSET, given: Any = UNSET) -> NewRun:
    """Begins another's workflow again, in its current version.

    Args:
        edited: the delivery's body in its place.
        given: the run's input in its place.

    Raises:
        NotFound: no such run, or no current version.
        NodeError: the input does not fit the workflow's schema.
    """
    _, started = await _history(database, id)
    workspace = await log.workspace_of(database, id)
    graph = _graph(specs, await _version(database, workspace, started.workflow, None))
    new = msgspec.structs.replace(_anew(started, graph, database), fork_of=id)
    if edited is not UNSET:
        new = msgspec.structs.replace(new, edited=edited)
    if given is not UNSET:
        check_input(graph, given)
        new = msgspec.structs.replace(new, input=given)
    return await _start(database, workspace, graph, new, [])


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


def _graph(specs: Any, row: WorkflowRow) -> Graph:
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


async def _start(database: Database, workspace: int, graph: Graph, started: RunStarted, facts: list[RunFact]) -> NewRun:
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
    return run
