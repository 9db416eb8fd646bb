"""A bench for workflows: deliver events, move the clock, say things to runs, look at what came of it.

Each delivery starts its run at once: `key`, `debounce`, `throttle` and `batch` are about what the runs of several
deliveries do to each other, and are not played here. `events` is then the one delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast
from uuid import UUID

import msgspec

from events.effects import Emit
from events.ids import uuid7
from events.telemetry import NoTelemetry
from events.types import Event, Kind, WorkItem
from executor.engine.attempts import Attempts
from executor.engine.held import Held
from executor.engine.outbound import OutboundClient
from executor.engine.processes import KillablePool
from executor.engine.registry import Registry
from executor.engine.routing import route
from executor.engine.run import RunDriver, Services
from executor.engine.scope import DeliveryScope
from executor.engine.scope_run import Edited, Scopes
from executor.engine.workflows import Current, arrivals_of, wait_expressions
from executor.testing.memory import Crash, FakeClock, Memory
from executor.testing.stubs import Call, Stub, Stubs
from executor.workflow.facts import NodeCompleted, RunFact, RunStarted
from executor.workflow.graph import Graph, compile_workflow, content_hash, load_yaml, parse_workflow
from executor.workflow.outcomes import NodeError
from executor.workflow.signals import Cancel, Decide, Pause, Resume, Retry, Signal
from executor.workflow.state import RunState, evolve
from executor.workflow.triggers import Triggers

START = 1_700_000_000.0
"""Where a bench's clock begins (Unix seconds)."""
MOST_STEPS = 100_000
"""Times that runs are carried on in one call: beyond, a workflow goes in circles."""

T = TypeVar("T")


class RunResult(msgspec.Struct, frozen=True):
    """A run as it stands. `status`: running (it waits), completed, failed, cancelled or parked.

    `outputs`: by node. `facts`: its events, `error` why it failed.
    """

    id: UUID
    workflow: str
    status: str
    outputs: dict[str, Any]
    output: Any
    error: str | None
    facts: tuple[RunFact, ...]


class Bench:
    """Workflows in memory.

    Args:
        documents: YAML text with one or more workflows, or their documents.
        stubs: stand-ins by node or node type; see `executor.testing.stubs`.
        node_modules: modules with nodes of your own.
        now: where the clock begins, Unix seconds.
        crashes: see `Memory`; for `crash_matrix`.

    Raises:
        ConfigError: a workflow is wrong; all faults.
    """

    def __init__(
        self,
        documents: str | Sequence[Mapping[str, Any]],
        *,
        stubs: Mapping[str, Stub] = {},
        node_modules: Sequence[str] = (),
        now: float = START,
        crashes: Callable[[str], None] = lambda where: None,
    ) -> None:
        self.clock = FakeClock(now)
        self._memory = Memory(self.clock, crashes)
        self._stubs = Stubs(Registry.load(node_modules), stubs)
        self._graphs = self._compiled(load_yaml(documents) if isinstance(documents, str) else documents)
        current = {graph.name: graph for graph in self._graphs.values()}
        self._named = current
        self._current = Current(1, {1: Triggers(current.values())}, wait_expressions(current.values()))
        self._services = self._compose()

    # What a test does.

    def deliver(self, source: str, type: str = "", body: Any = None, **facts: Any) -> RunResult:
        """A delivery comes in, and everything that is due is done. The first run that it started (or the last one that
        there is, if it started none).
        """
        id = uuid7(self.clock.now())
        metadata = {"source": source, "event_type": type, "method": "POST", "content_type": "application/json", **facts}
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        self._memory.deliver(
            Event(
                stream_id=id,
                version=0,
                type="delivery.received",
                recorded_at=self.clock.now(),
                metadata=metadata,
                body=raw,
            )
        )
        before = len(self._memory.runs)
        self.settle()
        results = self.runs
        if not results:
            raise LookupError(f"no workflow wants a delivery of source {source!r} with type {type!r} and this body")
        return results[before] if before < len(results) else results[-1]

    def settle(self) -> None:
        """Does what is due, and what falls due by itself within the second."""
        asyncio.run(self._settle(self.clock.now() + 1.0))

    def advance(self, seconds: float) -> None:
        """Moves the clock, and does all that falls due on the way."""
        until = self.clock.now() + seconds
        asyncio.run(self._settle(until))
        self.clock.at = until

    def finish(self, most: float = 366 * 86_400.0) -> None:
        """Moves the clock on until nothing is left that falls due by itself, `most` seconds at the longest."""
        asyncio.run(self._settle(self.clock.now() + most))

    def cancel(self, run: RunResult | UUID, by: str = "test", reason: str | None = None) -> RunResult:
        """Cancels a run."""
        return self._say(run, Cancel(by, reason))

    def pause(self, run: RunResult | UUID, by: str = "test") -> RunResult:
        """Pauses a run."""
        return self._say(run, Pause(by))

    def resume(self, run: RunResult | UUID, by: str = "test") -> RunResult:
        """Resumes a paused run."""
        return self._say(run, Resume(by))

    def decide(
        self, run: RunResult | UUID, node: str, approved: bool = True, data: Any = None, by: str = "test"
    ) -> RunResult:
        """Answers a `wait.approval`."""
        return self._say(run, Decide(node, approved, by, data))

    def retry(self, run: RunResult | UUID, node: str | None = None, by: str = "test") -> RunResult:
        """Has an ended run go on."""
        id = run if isinstance(run, UUID) else run.id
        self._memory.reopen(id, Retry(by, node))
        self.settle()
        return self.result(id)

    # What a test looks at.

    @property
    def runs(self) -> list[RunResult]:
        """All runs, in the order of their start."""
        return [self.result(id) for id in self._memory.runs]

    @property
    def calls(self) -> list[Call]:
        """All calls of nodes, in their order."""
        return self._stubs.calls

    @property
    def emitted(self) -> list[Emit]:
        """What `emit` nodes appended, in the order of their commits."""
        return self._memory.emitted

    def result(self, run: RunResult | UUID) -> RunResult:
        """A run as it stands now."""
        id = run if isinstance(run, UUID) else run.id
        stored = self._memory.runs[id]
        state = fold(stored.facts)
        outputs = {fact.node: fact.output for fact in stored.facts if isinstance(fact, NodeCompleted)}
        return RunResult(
            id, state.workflow, state.status.value, outputs, state.output, state.error, tuple(stored.facts)
        )

    # How it goes.

    async def _settle(self, until: float) -> None:
        for _ in range(MOST_STEPS):
            if self._memory.unrouted:
                self._route(self._memory.deliveries[self._memory.unrouted[0]])
                self._memory.unrouted.pop(0)
            elif due := self._memory.due():
                await self._carry(due[0])
            elif (at := self._memory.next_due()) is not None and at <= until:
                self.clock.at = max(self.clock.at, at)
            else:
                return
        raise RuntimeError(f"expected the runs to end or to wait, got {MOST_STEPS:,} steps: do they go in circles?")

    def _route(self, receipt: Event) -> None:
        item = WorkItem(
            id=receipt.stream_id, stream_id=receipt.stream_id, kind=Kind.DELIVERY, queue="webhook", token=1, attempt=1
        )
        arrivals = arrivals_of(self._current, DeliveryScope(receipt))
        routed = route(
            item,
            receipt,
            self._current,
            now=self.clock.now(),
            here=frozenset(),
            traceparent=None,
            arrivals=arrivals,
            lanes=False,
        )
        for new in routed.routing.runs:
            self._memory.start(msgspec.structs.replace(new, delivery_id=receipt.stream_id))
        self._memory.arrive(receipt.stream_id, arrivals)

    async def _carry(self, id: UUID) -> None:
        stored = self._memory.claim(id)
        state = fold(stored.facts)
        graph = self._graphs[bytes.fromhex(state.workflow_hash)]
        delivery: Mapping[str, Any] = DeliveryScope(self._memory.deliveries[state.delivery_id])
        if state.edited is not msgspec.UNSET:
            delivery = Edited(delivery, state.edited)
        held = Held(id, stored.token, graph, state, Scopes(id, graph, state, delivery), None, stored.signal)
        try:
            await RunDriver(held, self._services).drive()
        except Crash:
            self._memory.lose(id)

    def _say(self, run: RunResult | UUID, signal: Signal) -> RunResult:
        id = run if isinstance(run, UUID) else run.id
        self._memory.tell(id, signal)
        self.settle()
        return self.result(id)

    def _compiled(self, documents: Sequence[Mapping[str, Any]]) -> dict[bytes, Graph]:
        specs = self._stubs.registry.specs()
        graphs = {}
        for document in documents:
            if "workflow" in document:  # sources and endpoints may stand in the same file
                hash = content_hash(document)
                graphs[hash] = compile_workflow(parse_workflow(document, specs), hash)
        return graphs

    def _compose(self) -> Services:
        return Services(
            clock=self.clock,
            journal=self._memory,
            store=self._memory,
            snapshots=_Nowhere(),
            attempts=Attempts(
                clock=self.clock,
                registry=self._stubs.registry,
                pool=cast(KillablePool, None),  # stubs run in the loop
                client=cast(OutboundClient, None),
                endpoints=_no_endpoint,
                telemetry=NoTelemetry(),
                store=self._memory,
                find=self._find,
            ),
            telemetry=NoTelemetry(),
            draining=asyncio.Event(),
        )

    async def _find(self, name: str, workspace_id: int) -> Graph:
        if name not in self._named:
            raise NodeError("input", f"workflow {name!r}: expected one of {', '.join(self._named)}, got none")
        return self._named[name]


def fold(facts: Sequence[RunFact]) -> RunState:
    """The state after these events."""
    first, *rest = facts
    assert isinstance(first, RunStarted)
    state = evolve(None, first)
    for fact in rest:
        evolve(state, fact)
    return state


class _Nowhere:
    async def save(self, run_id: UUID, state: RunState) -> None:
        """A snapshot that nobody keeps: every resumption here folds the whole log."""


def _no_endpoint(name: str, workspace_id: int) -> Awaitable[Any]:
    raise NodeError("input", f"endpoint {name!r}: a bench has none; stub the node")
