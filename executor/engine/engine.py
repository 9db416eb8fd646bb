"""The engine of one worker process: takes due work, routes deliveries, carries runs on, and keeps what it holds.

A doorbell makes it `take` until there is nothing due or no room. How many runs it holds is its own setting and does not
hang on Dramatiq's threads; while it is full, `take` waits, and that is the back-pressure. What goes wrong:

- the lease is lost: stop; somebody else has it;
- the log is away: stop, give the work back when it answers again;
- anything else: our own fault or the data's: the work item comes back after a delay that grows, and is parked after
  `max_recoveries` attempts without progress.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any
from uuid import UUID

import structlog

from events import faults
from events.doorbell import Doorbell
from events.errors import HeadraceError, LeaseLost, Unavailable
from events.journal import Journal
from events.runs import Routing, RunWriter
from events.telemetry import Span, Telemetry
from events.types import Event, Kind, WorkItem
from events.work import WorkList
from executor.engine.held import Held
from executor.engine.leases import Leases
from executor.engine.routing import park, route
from executor.engine.run import RunDriver, Services
from executor.engine.scope import DeliveryScope, run_scope
from executor.engine.snapshots import Snapshots
from executor.engine.workflows import Workflows
from executor.workflow.backoff import Backoff
from executor.workflow.state import RunStatus

BATCH = 128
"""How many work items one claim takes at most."""
TRUSTED = 2
"""An item at this attempt or later is a suspect: one at a time per process."""
BACKOFF = Backoff(first=1.0, factor=2.0, max=300.0)
"""The delays of work that failed through no outcome of a node."""

_log = structlog.get_logger(__name__)


class Engine:
    """One worker's engine. All of it runs in one event loop.

    Args:
        queues: the queues served here.
        concurrency: how many runs are held at once.
        max_recoveries: attempts without progress before work is parked.
    """

    def __init__(
        self,
        *,
        queues: frozenset[str],
        work: WorkList,
        writer: RunWriter,
        workflows: Workflows,
        snapshots: Snapshots,
        services: Services,
        doorbell: Doorbell,
        telemetry: Telemetry,
        concurrency: int,
        max_recoveries: int,
    ) -> None:
        self._queues = queues
        self._work = work
        self._routings: Journal[Routing, bool] = Journal(writer.route, lambda row: 1024, max_waiting=100_000)
        self._workflows = workflows
        self._snapshots = snapshots
        self._services = services
        self._doorbell = doorbell
        self._telemetry = telemetry
        self._max_recoveries = max_recoveries
        self._free = concurrency
        self._room = asyncio.Condition()
        self._suspects: set[UUID] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.leases = Leases(work)

    async def take(self, queue: str) -> None:
        """Takes what is due in `queue`, until nothing is or the engine drains. Waits while the engine is full.

        Raises:
            Unavailable: the log cannot be read or written now; the relay rings again when it can.
        """
        while not self._services.draining.is_set():
            asked = await self._reserve()
            items: list[WorkItem] = []
            try:
                items = await self._work.claim(queue, asked, 0 if self._suspects else 1)
            finally:
                await self._release(asked - len(items))
            faults.point("engine.claimed")
            self._begin(items)
            if len(items) < asked:
                return

    async def stop(self, grace: float) -> None:
        """Drains: no new work, and runs stop before their next node. After `grace` seconds the rest is given back."""
        self._services.draining.set()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5)
        try:
            await self.leases.give_back_orphans()
        except HeadraceError as error:
            _log.warning("engine.not_given_back", error=str(error))

    @property
    def in_flight(self) -> int:
        """Runs and routings held now."""
        return len(self._tasks)

    async def _reserve(self) -> int:
        async with self._room:
            await self._room.wait_for(lambda: self._free > 0)
            asked = min(self._free, BATCH)
            self._free -= asked
            return asked

    async def _release(self, count: int) -> None:
        async with self._room:
            self._free += count
            if self._free > 0:
                self._room.notify()

    def _begin(self, items: Sequence[WorkItem]) -> None:
        """Sets every claimed item going, each in a task of its own: one that fails takes no other with it."""
        for item in items:
            if item.attempt >= TRUSTED:
                self._suspects.add(item.id)
                # One that lives past a renewal is no killer by birth: the next suspect may come.
                asyncio.get_running_loop().call_later(self._work.lease / 3, self._suspects.discard, item.id)
            work = self._carry(item) if item.kind is Kind.RUN else self._deliver(item)
            self._spawn(item.id, item.token, work, item.attempt)

    def _spawn(self, id: UUID, token: int, work: Coroutine[Any, Any, None], attempt: int = 1) -> None:
        task = asyncio.create_task(self._guard(id, token, attempt, work))
        self._tasks.add(task)
        self.leases.hold(id, token, task)

    async def _guard(self, id: UUID, token: int, attempt: int, work: Coroutine[Any, Any, None]) -> None:
        """Runs the work of one item and decides what a failure means for it."""
        try:
            await work
        except LeaseLost as error:
            _log.info("engine.lease_lost", item=str(id), error=str(error))
        except (Unavailable, asyncio.CancelledError) as error:
            # The log is away, or we drain, or the lease is lost (then giving back changes nothing).
            self.leases.orphan(id, token)
            _log.info("engine.let_go", item=str(id), reason=str(error) or "cancelled")
        except Exception as error:
            await self._failed(id, token, attempt, error)
        finally:
            self.leases.drop(id)
            self._suspects.discard(id)
            self._tasks.discard(asyncio.current_task())
            await self._release(1)

    async def _failed(self, id: UUID, token: int, attempt: int, error: Exception) -> None:
        delay = BACKOFF.delay(attempt, id.bytes)
        _log.error("engine.failed", item=str(id), attempt=attempt, retry_in=round(delay, 1), exc_info=error)
        try:
            await self._work.fail([(id, token)], delay, f"{type(error).__name__}: {error}")
        except HeadraceError:
            self.leases.orphan(id, token)

    async def _deliver(self, item: WorkItem) -> None:
        """Routes a delivery, then carries on the runs that it starts here."""
        if item.receipt is None:
            raise HeadraceError(f"delivery {item.stream_id}: its receipt is not in the log")
        if item.attempt > self._max_recoveries:
            await self._routings.append(park(item, self._reason(item)))
            _log.error("delivery.parked", event_id=str(item.stream_id), reason=self._reason(item))
            return
        current = await self._workflows.current(item.epoch)
        with self._routing_span(item, item.receipt) as span:
            now = self._services.clock.now()
            routed = route(item, item.receipt, current, now=now, here=self._queues, traceparent=span.traceparent)
            span.set("headrace.runs", len(routed.routing.runs))
            faults.point("engine.routed")
            if not await self._routings.append(routed.routing):
                raise LeaseLost(f"delivery {item.stream_id}: token {item.token} is not current any more")
        faults.point("engine.route_committed")
        for queue in routed.elsewhere:
            self._doorbell.ring(queue, span.traceparent)
        for run in routed.runs:  # the first takes over this delivery's place; more overfill the engine a little
            self._free -= 1
            self._spawn(run.id, run.token, self._drive(run))

    def _routing_span(self, item: WorkItem, receipt: Event) -> Span:
        """A delivery is routed in its sender's trace. A replay starts one of its own, linked to the first."""
        sender = receipt.metadata.get("traceparent")
        attributes = {"headrace.event.id": str(item.stream_id)} if self._telemetry.enabled else {}
        if item.kind is Kind.REPLAY:
            links = [sender] if sender else []
            return self._telemetry.span("replay", kind="consumer", links=links, attributes=attributes)
        return self._telemetry.span("route", kind="consumer", parent=sender, attributes=attributes)

    async def _carry(self, item: WorkItem) -> None:
        """Carries a claimed run on from where the log says it stands."""
        state = await self._snapshots.load(item.id)
        if state is None or item.receipt is None:
            raise HeadraceError(f"run {item.id}: its events are not in the log")
        graph = await self._workflows.graph(bytes.fromhex(state.workflow_hash))
        scope = run_scope(item.id, state, DeliveryScope(item.receipt))
        run = Held(item.id, item.token, graph, state, scope, state.traceparent)
        if item.attempt > self._max_recoveries:
            await RunDriver(run, self._services).park(self._reason(item))
            _log.error("run.parked", run_id=str(item.id), reason=self._reason(item))
            return
        await self._drive(run)

    async def _drive(self, run: Held) -> None:
        with self._run_span(run) as span:
            run.traceparent = span.traceparent
            state = await RunDriver(run, self._services).drive()
            span.set("headrace.run.status", state.status.value)
            if state.error is not None:
                span.fail(state.status.value)
        if state.status is RunStatus.RUNNING:
            await self._snapshots.save(run.id, state)

    def _run_span(self, run: Held) -> Span:
        """One for each time that a run is carried on; all of them in the trace that the run began in."""
        attributes: dict[str, str] = {}
        if self._telemetry.enabled:
            attributes = {"headrace.run.id": str(run.id), "headrace.event.id": str(run.state.delivery_id)}
        name, parent = f"run {run.graph.name}", run.traceparent
        return self._telemetry.span(name, kind="consumer", parent=parent, attributes=attributes)

    def _reason(self, item: WorkItem) -> str:
        died = f"claimed {item.attempt - 1} times without progress"
        return f"{died}; last error: {item.error}" if item.error else f"{died}; it may be what its workers died of"
