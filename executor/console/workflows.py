"""Workflow definitions by HTTP: read with an ETag, written with If-Match, checked as `headrace apply` checks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, put
from litestar.params import Parameter

from events import definitions
from events.api_keys import Principal, Role
from events.database import Database, translated
from events.definitions import Applying
from events.errors import NotFound
from events.schedules import ScheduleRow
from executor.console.problems import Refused
from executor.engine.registry import Registry
from executor.engine.workflows import wait_rows
from executor.workflow.graph import compile_workflow, content_hash, parse_workflow
from executor.workflow.schedules import next_time
from executor.workflow.yaml_text import load_yaml

OWN_SOURCES = frozenset({"emit", "schedule", "api"})

Asking = Request[Principal, Any, Any]
IfMatch = Annotated[str | None, Parameter(header="If-Match", required=False, max_length=200)]
IfNoneMatch = Annotated[str | None, Parameter(header="If-None-Match", required=False, max_length=1000)]


class WorkflowLine(msgspec.Struct):
    """A workflow in lists: its name, its current version, how many nodes it has."""

    name: str
    hash: str
    nodes: int


class WorkflowVersion(msgspec.Struct):
    """A version. `open`: how many runs of it have not ended."""

    hash: str
    applied_at: float
    current: bool
    open: int


class WorkflowAnswer(msgspec.Struct):
    """A workflow's document. `what`: what a PUT did: added, changed or unchanged."""

    name: str
    hash: str
    document: dict[str, Any]
    what: str | None = None


class WorkflowsApi(Controller):
    """`/workflow`."""

    path = "/workflow"
    tags: Sequence[str] = ("Workflows",)

    @get(opt={"role": Role.VIEWER}, summary="List the workflows")
    async def index(self, request: Asking, database: Database) -> list[WorkflowLine]:
        """In their current versions, by name."""
        rows = await definitions.workflows(database, request.user.workspace_id)
        lines = [WorkflowLine(row.name, row.hash.hex(), len(row.document.get("nodes", ()))) for row in rows]
        return sorted(lines, key=lambda line: line.name)

    @get("/{name:str}", opt={"role": Role.VIEWER}, summary="Show a workflow")
    async def show(
        self, name: str, request: Asking, database: Database, if_none_match: IfNoneMatch = None
    ) -> Response[WorkflowAnswer | None]:
        """Its ETag is the hash of its content; If-None-Match with that is answered with 304."""
        row = await definitions.workflow(database, name, request.user.workspace_id)
        if row is None:
            raise NotFound(f"no workflow {name!r}")
        etag = f'"{row.hash.hex()}"'
        if if_none_match is not None and etag in [one.strip() for one in if_none_match.split(",")]:
            return Response(None, status_code=304, headers={"ETag": etag})
        return Response(WorkflowAnswer(row.name, row.hash.hex(), row.document), headers={"ETag": etag})

    @get("/{name:str}/versions", opt={"role": Role.VIEWER}, summary="All versions of a workflow, the newest first")
    async def versions(self, name: str, request: Asking, database: Database) -> list[WorkflowVersion]:
        """Runs stay on the version with which they began."""
        found = await definitions.versions(database, name, request.user.workspace_id)
        if not found:
            raise NotFound(f"no workflow {name!r}")
        return [WorkflowVersion(one.hash.hex(), one.applied_at, one.current, one.open) for one in found]

    @put("/{name:str}", opt={"role": Role.ADMIN}, summary="Publish a version of a workflow")
    async def publish(
        self, name: str, request: Asking, database: Database, registry: Registry, if_match: IfMatch = None
    ) -> Response[WorkflowAnswer]:
        """The body is the document, as JSON or YAML; all faults are told at once (422).

        With If-Match it is published only if that is still the current version (412 where it is not); with
        `If-Match: *` only if there is one.
        """
        document = _document(await request.body(), name)
        hash = content_hash(document)
        workflow = parse_workflow(document, registry.specs())
        waits = wait_rows(compile_workflow(workflow, hash))
        own = request.user.workspace_id
        known = {row.slug for row in await definitions.sources(database, own)} | OWN_SOURCES
        named = dict.fromkeys([*(trigger.source for trigger in workflow.on), *(wait.source for wait in waits)])
        if faults := [f"on[].source: expected a source that exists, got {one!r}" for one in named if one not in known]:
            raise Refused(422, f"workflow {name}: expected sources that exist, got others", faults)
        now = database.clock.now()
        found = [trigger.schedule for trigger in workflow.on if trigger.schedule is not None]
        schedules = [ScheduleRow(own, name, one.expression, one.tz, one.catch_up, next_time(one, now)) for one in found]
        with translated():
            async with Applying(database, own) as applying:
                if if_match is not None:
                    _check(if_match, await applying.workflow_hash(name))
                await applying.workflow(name, hash, document, waits, schedules)
        what = applying.changes[0].what
        answer = WorkflowAnswer(name, hash.hex(), document, what)
        return Response(answer, status_code=201 if what == "added" else 200, headers={"ETag": f'"{hash.hex()}"'})


def _document(body: bytes, name: str) -> dict[str, Any]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refused(422, "body: expected JSON or YAML in UTF-8, got bytes that are not UTF-8") from None
    documents = load_yaml(text)
    if len(documents) != 1:
        raise Refused(422, f"body: expected one document, got {len(documents)}")
    if documents[0].get("workflow") != name:
        raise Refused(422, f"workflow: expected {name!r} as in the path, got {documents[0].get('workflow')!r}")
    return documents[0]


def _check(if_match: str, current: bytes | None) -> None:
    given = [one.strip() for one in if_match.split(",")]
    if current is None or ("*" not in given and f'"{current.hex()}"' not in given):
        got = f'the current version is "{current.hex()}"' if current is not None else "there is no such workflow yet"
        raise Refused(412, f"If-Match: expected the current version, got {if_match}; {got}")
