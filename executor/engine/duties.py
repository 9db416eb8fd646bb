"""What is to be done for one claimed work item: route a delivery, carry a run on, or park what nobody can.

Parking comes before anything that could fail or kill again: it needs nothing but the item itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
import structlog

from events import faults, log, waits
from events.database import Database
from events.effects import Arrival
from events.errors import HeadraceError, LeaseLost
from events.journal import Journal
from events.runs import Finish, NewEvent, Routing, RunAppend, RunWriter, Wake
from events.telemetry import Span
from events.types import Event, Kind, WorkItem
from events.work import WorkList
from executor.engine.held import Held
from executor.engine.lanes import Lanes
from executor.engine.listening import Listening
from executor.engine.routing import Routed, park, route
from executor.engine.run import RunDriver, Services
from executor.engine.scope import DeliveryScope
from executor.engine.scope_run import Edited, Scopes
from executor.engine.snapshots import Snapshots
from executor.engine.workflows import Current, Workflows, arrivals_of
from executor.workflow.facts import RunParked, encode
from executor.workflow.state import RunStatus

_log = structlog.get_logger(__name__)


class Duties:
    """Does what work items ask for.

    Args:
        queues: the queues served here.
        max_recoveries: attempts without progress before an item is parked.
    """

    def __init__(
        self,
        *,
        queues: frozenset[str],
        database: Database,
        work: WorkList,
        writer: RunWriter,
        workflows: Workflows,
        snapshots: Snapshots,
        services: Services,
        listening: Listening,
        max_recoveries: int,
    ) -> None:
        self._queues = queues
        self._database = database
        self._work = work
        self._routings: Journal[Routing, bool] = Journal(writer.route, lambda row: 1024, max_waiting=100_000)
        self._workflows = workflows
        self._snapshots = snapshots
        self._services = services
        self._listening = listening
        self._max_recoveries = max_recoveries
        self._lanes = Lanes(database, workflows)

    def hopeless(self, item: WorkItem) -> bool:
        """Whether the item has had its attempts."""
        return item.attempt > self._max_recoveries and item.kind is not Kind.LANE

    async def park(self, item: WorkItem) -> None:
        """Takes an item out of circulation, visible and with the reason, until a person replays it."""
        reason = f"claimed {item.attempt - 1} times without progress; "
        reason += f"last error: {item.error}" if item.error else "it may be what its workers died of"
        _log.error("work.parked", item=str(item.id), kind=item.kind.name.lower(), reason=reason)
        if item.kind is Kind.RUN:
            version = (item.version or 0) + 1
            wakes = () if item.lane is None else (Wake(item.lane),)
            fact = NewEvent(version, *encode(RunParked(reason)))
            row = RunAppend(item.id, item.token, version, "parked", (fact,), Finish(), reason[:2000], effects=wakes)
            await self._services.journal.append(row)
        elif item.receipt is None:
            await self._work.discard([(item.id, item.token)])  # its log is gone: there is nothing left to park
        else:
            await self._routings.append(park(item, reason))

    async def deliver(self, item: WorkItem, strand: Callable[[UUID, int], None]) -> Routed:
        """Routes a delivery; the runs that start here are leased to this process when it returns.

        Args:
            strand: told of each such run if it cannot be known whether the routing was written.
        """
        if item.receipt is None:
            raise HeadraceError(f"delivery {item.stream_id}: its receipt is not in the log")
        current = await self._workflows.current(item.epoch)
        arrivals = await self._note_arrivals(item, item.receipt, current)
        with self._routing_span(item, item.receipt) as span:
            now = self._services.clock.now()
            routed = route(
                item,
                item.receipt,
                current,
                now=now,
                here=self._queues,
                traceparent=span.traceparent,
                arrivals=arrivals,
            )
            span.set("headrace.runs", len(routed.routing.runs))
            faults.point("engine.routed")
            try:
                written = await self._routings.append(routed.routing)
            except BaseException:
                for run in routed.runs:
                    strand(run.id, run.token)
                raise
            if not written:
                raise LeaseLost(f"delivery {item.stream_id}: token {item.token} is not current any more")
        faults.point("engine.route_committed")
        return routed

    async def resume(self, item: WorkItem) -> Held:
        """A claimed run, from where the log says it stands."""
        state = await self._snapshots.load(item.id)
        if state is None or item.receipt is None:
            raise HeadraceError(f"run {item.id}: its events are not in the log")
        graph = await self._workflows.graph(bytes.fromhex(state.workflow_hash))
        delivery: Mapping[str, Any] = DeliveryScope(item.receipt)
        if state.edited is not msgspec.UNSET:
            delivery = Edited(delivery, state.edited)
        events = await self._batch(state.deliveries, delivery) if graph.batched else ()
        scopes = Scopes(item.id, graph, state, delivery, events)
        return Held(
            item.id,
            item.token,
            graph,
            state,
            scopes,
            state.traceparent,
            item.signal,
            workspace_id=item.workspace_id,
        )

    async def carry(self, run: Held) -> None:
        """Carries a run on until it ends or lets go; what sleeps leaves a snapshot."""
        with self._run_span(run) as span:
            run.traceparent = span.traceparent
            self._listening.begin(run)
            try:
                state = await RunDriver(run, self._services).drive()
            finally:
                self._listening.end(run)
            span.set("headrace.run.status", state.status.value)
            if state.error is not None:
                span.fail(state.status.value)
        if state.status is RunStatus.RUNNING:
            await self._snapshots.save(run.id, state)

    async def settle(self, item: WorkItem) -> frozenset[str]:
        """Carries a lane on; the queues with something new to do."""
        return await self._lanes.carry(item)

    async def _batch(self, ids: Sequence[UUID], own: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The deliveries that a run is made of, in the order in which they came."""
        if not ids:
            return [own]
        receipts = await log.receipts(self._database, ids[:-1])
        return [*(DeliveryScope(receipts[id]) for id in ids[:-1] if id in receipts), own]

    async def _note_arrivals(self, item: WorkItem, receipt: Event, current: Current) -> tuple[Arrival, ...]:
        """Writes down, and commits, what waiting runs may find the delivery by. A replay wakes nobody."""
        if item.kind is Kind.REPLAY or not current.expressions:
            return ()
        arrivals = arrivals_of(current, DeliveryScope(receipt), item.workspace_id)
        if arrivals:
            type = str(receipt.metadata.get("event_type", ""))
            await waits.note(self._database, [waits.NewArrivals(item.stream_id, type, arrivals)])
        return arrivals

    def _routing_span(self, item: WorkItem, receipt: Event) -> Span:
        """A delivery is routed in its sender's trace. A replay starts one of its own, linked to the first."""
        telemetry = self._services.telemetry
        sender = receipt.metadata.get("traceparent")
        attributes = {"headrace.event.id": str(item.stream_id)} if telemetry.enabled else {}
        if item.kind is Kind.REPLAY:
            links = [sender] if sender else []
            return telemetry.span("replay", kind="consumer", links=links, attributes=attributes)
        return telemetry.span("route", kind="consumer", parent=sender, attributes=attributes)

    def _run_span(self, run: Held) -> Span:
        """One for each time that a run is carried on; all of them in the trace that the run began in."""
        telemetry = self._services.telemetry
        attributes: dict[str, str] = {}
        if telemetry.enabled:
            attributes = {"headrace.run.id": str(run.id), "headrace.event.id": str(run.state.delivery_id)}
        name, parent = f"run {run.graph.name}", run.traceparent
        return telemetry.span(name, kind="consumer", parent=parent, attributes=attributes)
