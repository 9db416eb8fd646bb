"""Runs by HTTP: start one, see how it goes, have a say in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.params import Parameter

from events import log, starts, workspaces
from events.api_keys import Principal, Role
from events.control import Reopen, reopen
from events.database import Database
from events.doorbell import Doorbell
from events.errors import NotFound
from events.inbox import Message, Sent, send
from events.log import RunSummary
from events.run_view import view
from events.starts import Asked, Before, Conflict
from events.types import REPLAY_QUEUE
from executor.console.paging import Cursor, Page, page_of
from executor.console.problems import Refused
from executor.console.waiting import Ends
from executor.engine import forks
from executor.engine.registry import Registry
from executor.engine.workflows import Workflows
from executor.workflow.facts import RunCompleted, RunStarted, decode, encode
from executor.workflow.inputs import input_faults
from executor.workflow.outcomes import NodeError
from executor.workflow.signals import Cancel, Decide, Pause, Resume, Retry, Signal
from executor.workflow.signals import encode as encode_signal

MOST_WAIT = 60.0
"""Seconds that a request may wait for its run."""

Asking = Request[Principal, Any, Any]
IdempotencyKey = Annotated[
    str | None,
    Parameter(header="Idempotency-Key", min_length=1, max_length=200, required=False),
]
Wait = Annotated[float, Parameter(query="wait", ge=0, le=MOST_WAIT, description="Seconds to wait for the run's end.")]


class RunRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A run to be started: the workflow's name, and its input, which is `input` and `event.body` in expressions."""

    workflow: str
    input: Any = None


class RunAnswer(msgspec.Struct, omit_defaults=True):
    """A run. `output` is there when it completed, `waits_for` when it needs a place of its workspace first."""

    id: UUID
    workflow: str
    status: str
    version: int
    started_at: float
    delivery_id: UUID | None = None
    ended_at: float | None = None
    error: str | None = None
    parent: UUID | None = None
    waits_for: str | None = None
    output: Any = msgspec.UNSET


class RunEvent(msgspec.Struct):
    """One event of a run's history."""

    version: int
    type: str
    at: float
    data: dict[str, Any]


class Say(msgspec.Struct, forbid_unknown_fields=True):
    """Why, for the run's history."""

    reason: Annotated[str, msgspec.Meta(max_length=1000)] | None = None


class From(msgspec.Struct, forbid_unknown_fields=True):
    """Where to begin. `version`: the hash of the workflow's version, `latest` for the current one."""

    node: str | None = None
    version: str | None = None


class Decision(msgspec.Struct, forbid_unknown_fields=True):
    """The answer to a `wait.approval`."""

    node: str
    approved: bool = True
    data: Any = None


class Runs(Controller):
    """`/run`."""

    path = "/run"
    tags: Sequence[str] = ("Runs",)

    @post(opt={"role": Role.OPERATOR}, status_code=202, summary="Start a run, and perhaps wait for its end")
    async def start(
        self,
        *,
        data: RunRequest,
        request: Asking,
        database: Database,
        doorbell: Doorbell,
        workflows: Workflows,
        ends: Ends,
        idempotency_key: IdempotencyKey = None,
        wait: Wait = 0.0,
    ) -> Response[RunAnswer]:
        """202 while the run goes on, 200 once it has ended. The same Idempotency-Key starts one run, however often it
        comes; with another body it is an error (422).
        """
        own = request.user.workspace_id
        try:
            graph = await workflows.named(data.workflow, own)
        except NodeError as error:
            raise Refused(404, str(error)) from error
        if graph.input is not None and (faults := input_faults(graph.input, data.input)):
            raise Refused(422, f"input: expected what the schema of {graph.name} says, got something else", faults)
        if graph.lane is not None:
            raise Refused(
                409,
                f"workflow {graph.name}: its runs wait for each other (key, concurrency, …), and only a delivery"
                " can wait for its turn; post a webhook to a source, or start it with `emit`",
            )

        def started(delivery_id: UUID, now: float) -> bytes:
            fact = RunStarted(
                workflow=graph.name, workflow_hash=graph.hash.hex(), delivery_id=delivery_id, at=now, input=data.input
            )
            return encode(fact)[1]

        actor = f"key {request.user.name}"
        asked = Asked(own, graph.name, graph.hash, data.input, actor, idempotency_key)
        begun = await starts.begin(database, asked, started)
        if isinstance(begun, Conflict):
            raise Refused(422, "Idempotency-Key: expected the request it came with first, got another")
        doorbell.ring(REPLAY_QUEUE)
        await ends.wait(begun.run_id, wait)
        answer = await shown(database, begun.run_id, own)
        status = 200 if answer.ended_at is not None or isinstance(begun, Before) else 202
        return Response(answer, status_code=status, headers={"Location": f"/run/{begun.run_id}"})

    @get(opt={"role": Role.VIEWER}, summary="List runs, the newest first")
    async def index(
        self,
        *,
        request: Asking,
        database: Database,
        cursor: Cursor = None,
        limit: Annotated[int, Parameter(ge=1, le=200)] = 50,
        status: str | None = None,
        workflow: str | None = None,
    ) -> Page[RunAnswer]:
        """Pages go by `cursor`: the `next` of the page before."""
        found = await log.runs(
            database,
            limit=limit + 1,
            before=cursor,
            status=status,
            workflow=workflow,
            workspace_id=request.user.workspace_id,
        )
        return page_of([_answer(row) for row in found], limit, lambda row: row.id)

    @get("/{run_id:uuid}", opt={"role": Role.VIEWER}, summary="Show a run")
    async def show(self, run_id: UUID, request: Asking, database: Database, ends: Ends, wait: Wait = 0.0) -> RunAnswer:
        """With `wait`, the answer comes when the run has ended, or after so many seconds."""
        await _own(database, run_id, request.user)
        await ends.wait(run_id, wait)
        return await shown(database, run_id, request.user.workspace_id)

    @get("/{run_id:uuid}/events", opt={"role": Role.VIEWER}, summary="The history of a run, from its beginning")
    async def events(
        self,
        *,
        run_id: UUID,
        request: Asking,
        database: Database,
        after: Annotated[int, Parameter(ge=-1, description="The last version that is known.")] = -1,
        limit: Annotated[int, Parameter(ge=1, le=1000)] = 200,
    ) -> Page[RunEvent]:
        """Pages go by version: `next` is the `after` of the page that follows."""
        await _own(database, run_id, request.user)
        found = await log.stream(database, run_id, after + 1, after + 1 + limit)
        rows = [
            RunEvent(one.version, one.type, one.recorded_at, msgspec.json.decode(one.body or b"{}")) for one in found
        ]
        return page_of(rows, limit, lambda row: row.version)

    @post("/{run_id:uuid}/cancel", opt={"role": Role.OPERATOR}, status_code=202, summary="End a run now")
    async def cancel(
        self, *, run_id: UUID, request: Asking, database: Database, doorbell: Doorbell, data: Say | None = None
    ) -> RunAnswer:
        """Nodes in flight are cancelled, what the run did is undone, its child runs end too."""
        signal = Cancel(_actor(request), data.reason if data else None)
        return await _tell(database, doorbell, run_id, request.user, signal)

    @post("/{run_id:uuid}/pause", opt={"role": Role.OPERATOR}, status_code=202, summary="Start no further node")
    async def pause(
        self, *, run_id: UUID, request: Asking, database: Database, doorbell: Doorbell, data: Say | None = None
    ) -> RunAnswer:
        """Nodes in flight end, timers go on."""
        signal = Pause(_actor(request), data.reason if data else None)
        return await _tell(database, doorbell, run_id, request.user, signal)

    @post("/{run_id:uuid}/resume", opt={"role": Role.OPERATOR}, status_code=202, summary="Go on after a pause")
    async def resume(self, run_id: UUID, request: Asking, database: Database, doorbell: Doorbell) -> RunAnswer:
        """A run that is not paused goes on as it does."""
        return await _tell(database, doorbell, run_id, request.user, Resume(_actor(request)))

    @post("/{run_id:uuid}/approve", opt={"role": Role.OPERATOR}, status_code=202, summary="Answer a wait.approval")
    async def approve(
        self, *, run_id: UUID, data: Decision, request: Asking, database: Database, doorbell: Doorbell
    ) -> RunAnswer:
        """`node` is the one that waits, as the run's history names it."""
        signal = Decide(data.node, data.approved, _actor(request), data.data)
        return await _tell(database, doorbell, run_id, request.user, signal)

    @post("/{run_id:uuid}/retry", opt={"role": Role.OPERATOR}, status_code=202, summary="Go on where a run failed")
    async def retry(
        self, *, run_id: UUID, request: Asking, database: Database, doorbell: Doorbell, data: From | None = None
    ) -> RunAnswer:
        """What completed stays completed; with `node`, that and all behind it begins again."""
        await _own(database, run_id, request.user)
        _, body = encode_signal(Retry(_actor(request), data.node if data else None))
        opened = await reopen(database, [Reopen(run_id, body, REPLAY_QUEUE)])
        if not opened:
            raise Refused(409, f"run {run_id}: expected one that failed, was cancelled or is parked, got another")
        doorbell.ring(opened[run_id])
        return await shown(database, run_id, request.user.workspace_id)

    @post("/{run_id:uuid}/fork", opt={"role": Role.OPERATOR}, status_code=201, summary="A new run from a node on")
    async def fork(
        self, *, run_id: UUID, data: From, request: Asking, database: Database, doorbell: Doorbell, registry: Registry
    ) -> Response[RunAnswer]:
        """The new run begins with the results that the old one had before `node`."""
        await _own(database, run_id, request.user)
        if data.node is None:
            raise Refused(422, "node: expected the name of a node of the run, got none")
        version = None if data.version == "latest" else data.version or ""
        run = await forks.fork(database, registry.specs(), run_id, data.node, version)
        doorbell.ring(run.queue)
        answer = await shown(database, run.id, request.user.workspace_id)
        return Response(answer, status_code=201, headers={"Location": f"/run/{run.id}"})


async def shown(database: Database, run_id: UUID, workspace_id: int) -> RunAnswer:
    """A run as it is told.

    Raises:
        NotFound: the workspace has no such run.
    """
    found = await view(database, run_id, workspace_id)
    if found is None:
        raise NotFound(f"no run has the id {run_id}")
    answer = _answer(found.summary)
    if answer.ended_at is not None and found.goes_on:  # reopened, and nobody took it yet
        answer.status, answer.ended_at, answer.error = "running", None, None
    elif found.last is not None:
        fact = decode("run.completed", found.last)
        answer.output = fact.output if isinstance(fact, RunCompleted) else None
    elif answer.ended_at is None and (place := await workspaces.waits_for_place(database, run_id)) is not None:
        answer.waits_for = str(place)
    return answer


def _answer(run: RunSummary) -> RunAnswer:
    return RunAnswer(
        id=run.id,
        workflow=run.workflow,
        status=run.status,
        version=run.version,
        started_at=run.started_at,
        delivery_id=run.delivery_id,
        ended_at=run.ended_at,
        error=run.error,
        parent=run.parent,
    )


async def _own(database: Database, run_id: UUID, user: Principal) -> None:
    if await log.workspace_of(database, run_id) != user.workspace_id:
        raise NotFound(f"no run has the id {run_id}")


async def _tell(database: Database, doorbell: Doorbell, run_id: UUID, user: Principal, signal: Signal) -> RunAnswer:
    await _own(database, run_id, user)
    (answer,) = await send(database, [Message(run_id, *encode_signal(signal))])
    if not isinstance(answer, Sent):
        raise Refused(409, f"run {run_id}: expected one that goes on, got one that has ended; retry reopens it")
    if not answer.leased:
        doorbell.ring(answer.queue)
    return await shown(database, run_id, user.workspace_id)


def _actor(request: Asking) -> str:
    return f"key {request.user.name}"
