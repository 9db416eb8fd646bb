"""The log, the work list and the inboxes in memory: what the engine asks of PostgreSQL, with the same fences.

One thread, one loop: every method is one transaction. A crash is an exception out of `append`, before or after it took
effect; whoever claims the run next gets a new token and folds the log anew.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec

from events.effects import Arrival, Effect, Emit, NewRun, StartRun, Subscribe, Tell, Unsubscribe, Wake
from events.ids import Clock
from events.runs import Finish, RunAppend, Yield
from events.types import Event
from executor.engine.store import Row
from executor.workflow.facts import ItemEnded, NodeCompleted, RunFact, decode
from executor.workflow.signals import Arrived, Signal
from executor.workflow.signals import decode as decode_signal
from executor.workflow.signals import encode as encode_signal


class Crash(BaseException):
    """The process that carried a run dies here."""


class FakeClock(Clock):
    """A clock that stands still until it is moved. `at`: Unix seconds."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def now(self) -> float:
        """Unix seconds."""
        return self.at


class Stored(msgspec.Struct):
    """One run: its log, its inbox and its work item (`due` None: it has ended)."""

    new: NewRun
    facts: list[RunFact]
    due: float | None
    token: int = 0
    leased: bool = False
    signal: int = 0
    inbox: list[Row] = []
    error: str | None = None


class Memory:
    """Everything that is stored.

    Args:
        crashes: called before and after each append with "before" or "after"; raises Crash to end the process there.
    """

    def __init__(self, clock: FakeClock, crashes: Callable[[str], None] = lambda where: None) -> None:
        self.clock = clock
        self.runs: dict[UUID, Stored] = {}
        self.deliveries: dict[UUID, Event] = {}
        self.unrouted: list[UUID] = []
        self.emitted: list[Emit] = []
        self._crashes = crashes
        self._seq = 0
        self._subscriptions: dict[tuple[UUID, str], Subscribe] = {}
        self._arrivals: list[tuple[Arrival, UUID, float]] = []

    # What the driver appends.

    def append(self, row: RunAppend) -> Awaitable[bool]:
        """Appends as the log does: all of it, or nothing if the token is stale."""
        self._crashes("before")
        current = self._append(row)
        self._crashes("after")
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        answer.set_result(current)
        return answer

    def _append(self, row: RunAppend) -> bool:
        run = self.runs[row.id]
        if run.token != row.token or run.due is None:
            return False
        for new in row.events:
            if new.version != len(run.facts):
                raise AssertionError(f"run {row.id}: expected version {len(run.facts)} next, got {new.version}")
            run.facts.append(decode(new.type, new.body))
        run.error = row.error
        run.inbox = [kept for kept in run.inbox if kept.seq > row.inbox]
        for effect in row.effects:
            self._apply(row.id, effect)
        match row.then:
            case Finish():
                run.due, run.leased = None, False
                run.inbox.clear()
                for key in [key for key in self._subscriptions if key[0] == row.id]:
                    del self._subscriptions[key]
            case Yield(due_at):
                run.due = self.clock.now() if run.signal > row.inbox else due_at
                run.leased = False
                run.token += 1
            case _:
                pass
        return True

    def _apply(self, run_id: UUID, effect: Effect) -> None:
        match effect:
            case StartRun(new):
                self.start(new)
            case Tell(to, type, body):
                self.tell(to, decode_signal(type, body))
            case Wake():
                pass  # runs on a bench do not wait for each other
            case Emit():
                self.emitted.append(effect)
                self.deliver(
                    Event(
                        stream_id=effect.id,
                        version=0,
                        type="delivery.received",
                        recorded_at=self.clock.now(),
                        metadata=msgspec.json.decode(effect.metadata),
                        body=effect.body,
                    )
                )
            case Subscribe():
                self._subscriptions[run_id, effect.node] = effect
            case Unsubscribe(node):
                self._subscriptions.pop((run_id, node), None)

    # What others do.

    def start(self, new: NewRun) -> None:
        """Creates a run that is due now; a second time changes nothing."""
        if new.id not in self.runs:
            self.runs[new.id] = Stored(new, [decode("run.started", new.started)], self.clock.now())

    def tell(self, to: UUID, signal: Signal) -> bool:
        """Puts a row into an inbox; whether the run had not ended."""
        run = self.runs.get(to)
        if run is None or run.due is None:
            return False
        self._seq += 1
        run.signal = self._seq
        type, body = encode_signal(signal)
        run.inbox.append(Row(self._seq, decode_signal(type, body)))
        if not run.leased:
            run.due = self.clock.now()
        return True

    def reopen(self, id: UUID, signal: Signal) -> bool:
        """Makes an ended run due again, with a row in its inbox."""
        run = self.runs[id]
        if run.due is not None:
            return False
        run.due = self.clock.now()
        run.token += 1
        return self.tell(id, signal)

    def deliver(self, receipt: Event) -> None:
        """A delivery comes in and waits for its routing."""
        if receipt.stream_id not in self.deliveries:
            self.deliveries[receipt.stream_id] = receipt
            self.unrouted.append(receipt.stream_id)

    def arrive(self, delivery_id: UUID, arrivals: tuple[Arrival, ...]) -> None:
        """Notes what a delivery may be found by, and tells the runs that wait for it."""
        self._arrivals += [(arrival, delivery_id, self.clock.now()) for arrival in arrivals]
        for (run_id, node), wait in list(self._subscriptions.items()):
            if Arrival(wait.source, wait.expression, wait.key) in arrivals:
                self.tell(run_id, Arrived(node, delivery_id))

    def due(self) -> list[UUID]:
        """The runs that may be claimed now, the one that is longest due in front."""
        now = self.clock.now()
        ready = [(run.due, id) for id, run in self.runs.items() if run.due is not None and not run.leased]
        return [id for at, id in sorted(ready) if at <= now]

    def next_due(self) -> float | None:
        """When the next run falls due; None where none does by itself."""
        times = [run.due for run in self.runs.values() if run.due is not None and not run.leased]
        return min((at for at in times if at < math.inf), default=None)

    def claim(self, id: UUID) -> Stored:
        """Takes a run: a new token, so that whoever held it before writes nothing any more."""
        run = self.runs[id]
        run.token += 1
        run.leased = True
        return run

    def lose(self, id: UUID) -> None:
        """The lease of a process that died runs out."""
        run = self.runs[id]
        run.leased = False
        if run.due is not None:
            run.due = self.clock.now()

    # What the driver reads (`RunStore`).

    async def inbox(self, run_id: UUID, after: int) -> list[Row]:
        """The rows above `after`."""
        return [row for row in self.runs[run_id].inbox if row.seq > after]

    async def arrivals(self, source: str, expression: bytes, key: bytes, since: float) -> list[UUID]:
        """Deliveries with this key since then."""
        wanted = Arrival(source, expression, key)
        return [id for arrival, id, at in self._arrivals if arrival == wanted and at >= since]

    async def delivery(self, id: UUID) -> Event | None:
        """A receipt."""
        return self.deliveries.get(id)

    async def output(self, run_id: UUID, version: int) -> Any:
        """The output in a `node.completed`."""
        fact = self.runs[run_id].facts[version]
        assert isinstance(fact, NodeCompleted)
        return fact.output

    async def ended_items(self, run_id: UUID, path: str) -> list[ItemEnded]:
        """All `item.ended` of a map."""
        return [fact for fact in self.runs[run_id].facts if isinstance(fact, ItemEnded) and fact.node == path]
