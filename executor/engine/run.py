"""How a run is carried on: read what others say, plan, do, note, again, until it ends or has to wait.

The holder of the run's token is here; everybody else puts a row somewhere and rings. What it promises:

- A node's outcome is in the log before anything that depends on it begins. A node without effects (`pure`) may be
  computed again, so its outcome waits for the run's next commit. What an outcome brings along (a child run, a
  subscription, an emitted event) is in the same commit.
- An append that finds the token stale raises LeaseLost, and the driver stops where it is: nothing more is written, the
  nodes in flight are cancelled.
- A retry, a timer, a wait hold nothing: the run lets go of its lease, and its work item says when to come back. A
  signal that comes meanwhile makes it due.
- An awaited event is not lost: the wait is committed before the events that came just before it are looked for, and
  whoever routes an event writes it down before looking for waits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterable
from enum import Enum
from typing import Any, Protocol, assert_never
from uuid import UUID

import msgspec

from events import faults
from events.errors import LeaseLost
from events.ids import Clock
from events.inbox import MOST_ROWS
from events.runs import Effect, Finish, Keep, NewEvent, RunAppend, Status, Subscribe, Then, Unsubscribe, Wake, Yield
from events.telemetry import Telemetry
from executor.engine.attempts import Attempted, Attempts
from executor.engine.endings import farewells
from executor.engine.held import Held
from executor.engine.node import GRACE
from executor.engine.receiving import Receiving
from executor.engine.results import item_ended, map_completed, run_completed
from executor.engine.store import RunStore
from executor.workflow.facts import (
    Ending,
    ItemEnded,
    NodeCompleted,
    NodeFailed,
    RunCompleted,
    RunFact,
    RunFailing,
    encode,
)
from executor.workflow.plan import End, Gather, Go, Halt, Note, plan
from executor.workflow.state import RunState, RunStatus, event_waits, evolve
from executor.workflow.waits import ForEvent

SNAPSHOT_EVERY = 50
"""Events after which a run that goes on leaves a snapshot."""


class Appends(Protocol):
    """Where events go; the journal of a process."""

    def append(self, row: RunAppend) -> Awaitable[bool]:
        """Whether the token was current. Resolves once the events are durable."""


class Saves(Protocol):
    """Where snapshots are left."""

    async def save(self, run_id: UUID, state: RunState) -> None:
        """Keeps a state that the log holds already; never fails."""


class Services(msgspec.Struct, frozen=True):
    """What every run of a process shares."""

    clock: Clock
    journal: Appends
    store: RunStore
    attempts: Attempts
    snapshots: Saves
    telemetry: Telemetry
    draining: asyncio.Event


class Step(Enum):
    """Whether there is more to do."""

    GO_ON = "there is"
    LET_GO = "the run has ended, or sleeps"


class RunDriver:
    """Carries one run on."""

    def __init__(self, run: Held, services: Services) -> None:
        self._run = run
        self._services = services
        self._receiving = Receiving(run.id, run.graph, run.state, run.scopes, services.store)
        self._running: dict[str, asyncio.Task[Attempted]] = {}
        self._noted: list[NewEvent] = []  # folded into the state, not yet in the log
        self._effects: list[Effect] = []  # of those
        self._owed = False  # whether something that may not be done again is among them
        self._awaited = list(event_waits(run.state.nodes))  # not yet looked back for
        self._snapshot = run.state.version

    async def drive(self) -> RunState:
        """Returns when the run has ended or was let go.

        Raises:
            LeaseLost: somebody else carries the run on.
            Unavailable: the log cannot be written now; what was noted and not committed is forgotten.
        """
        try:
            while await self._step() is Step.GO_ON:
                pass
            return self._run.state
        finally:
            await self._halt(None)

    async def _step(self) -> Step:
        run = self._run
        if run.signal > run.state.inbox:
            await self._read_inbox()
        if run.state.status is not RunStatus.RUNNING:  # it had ended, and nobody wants it to go on
            await self._commit(Finish())
            return Step.LET_GO
        now = self._services.clock.now()
        match plan(run.graph, run.state, now, self._running.keys()):
            case Note(facts):
                for fact in facts:
                    self._note([await self._whole(fact)])
            case Gather(path):
                await self._commit(Keep())  # what is gathered is read from the log
                self._note([await map_completed(run, path, self._services.store)])
            case Halt():
                await self._halt(GRACE)
            case End(fact):
                self._note([await self._whole(fact)])
                await self._commit(Finish())
                return Step.LET_GO
            case Go(start, wake, waits):
                if self._services.draining.is_set():
                    return await self._carry((), now, waits)
                return await self._carry(start, wake, waits)
            case impossible:
                assert_never(impossible)
        return Step.GO_ON

    async def _carry(self, start: tuple[str, ...], wake: float | None, waits: bool) -> Step:
        """Starts nodes and waits for an outcome; with nothing in flight, lets the run go until `wake`."""
        if self._owed and (start or self._awaited):
            await self._commit(Keep())
        if self._awaited:
            await self._look_back()
            return Step.GO_ON
        if len(start) == 1 and wake is None and not waits and not self._running:  # a chain needs no task to wait for
            self._take(await self._services.attempts.attempt(self._run, start[0]))
            return Step.GO_ON
        for path in start:
            self._running[path] = asyncio.create_task(self._services.attempts.attempt(self._run, path))
        if self._running:
            await self._next(wake)
            return Step.GO_ON
        await self._commit(Yield(math.inf if wake is None else wake))
        return Step.LET_GO

    async def _next(self, wake: float | None) -> None:
        """Waits for an outcome, for a signal, or until `wake`, and notes what is done."""
        patience = None if wake is None or self._services.draining.is_set() else wake - self._services.clock.now()
        bell = self._run.listen()
        tasks = self._running.values()
        awaited: set[asyncio.Future[Any]] = {bell, *tasks}
        done, _ = await asyncio.wait(awaited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        for path in [path for path, task in self._running.items() if task in done]:
            self._take(self._running.pop(path).result())
        if self._owed:
            await self._commit(Keep())

    async def _halt(self, grace: float | None) -> None:
        """Cancels what is in flight and waits for its end, at most `grace` seconds."""
        tasks = list(self._running.values())
        self._running.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    async def _read_inbox(self) -> None:
        run = self._run
        rows = await self._services.store.inbox(run.id, run.state.inbox)
        for row in rows:
            run.signal = max(run.signal, row.seq)
            self._note(await self._receiving.facts(row, self._services.clock.now()))
        if len(rows) < MOST_ROWS:  # else there may be more
            run.signal = run.state.inbox  # rows that others have read already are gone

    async def _look_back(self) -> None:
        """Looks for events that came before their wait was there to be found."""
        paths, self._awaited = self._awaited, []
        for path in paths:
            waiting = self._receiving.waiting(path)
            if waiting is None or not isinstance(wait := waiting.wait, ForEvent):
                continue
            for id in await self._services.store.arrivals(wait.source, wait.expression, wait.key, wait.since):
                if found := await self._receiving.arrived(path, id):
                    self._note(found)
                    break

    async def _whole(self, fact: RunFact) -> RunFact:
        """The fact with the output that it stands for."""
        match fact:
            case ItemEnded():
                return await item_ended(self._run, fact, self._services.store)
            case RunCompleted():
                return await run_completed(self._run, self._services.store)
            case _:
                return fact

    def _take(self, attempted: Attempted) -> None:
        self._effects += attempted.effects
        self._owed = self._owed or bool(attempted.effects)
        self._awaited += [effect.node for effect in attempted.effects if isinstance(effect, Subscribe)]
        self._note([attempted.fact])

    def _note(self, facts: Iterable[RunFact]) -> None:
        run = self._run
        for fact in facts:
            if isinstance(fact, RunFailing | Ending):
                self._effects += farewells(run, fact)
            if isinstance(fact, NodeCompleted | NodeFailed):
                waiting = self._receiving.waiting(fact.node)
                if waiting is not None and isinstance(waiting.wait, ForEvent):
                    self._effects.append(Unsubscribe(fact.node))
                self._owed = self._owed or not run.graph.at(fact.node).pure
            evolve(run.state, fact)
            type, body = encode(fact)
            self._noted.append(NewEvent(run.state.version, type, body))
            if isinstance(fact, NodeCompleted):
                run.scopes.completed(fact.node, fact.output)

    async def _commit(self, then: Then) -> None:
        run, state = self._run, self._run.state
        faults.point("run.commit.before")
        if isinstance(then, Finish) and state.lane is not None:
            self._effects.append(Wake(state.lane))
        row = RunAppend(
            run.id,
            run.token,
            state.version,
            _status(state, then),
            tuple(self._noted),
            then,
            state.error,
            inbox=state.inbox,
            effects=tuple(self._effects),
        )
        if not await self._services.journal.append(row):
            raise LeaseLost(f"run {run.id}: token {run.token} is not current any more")
        faults.point("run.commit.after")
        self._noted.clear()
        self._effects.clear()
        self._owed = False
        if isinstance(then, Keep) and state.version - self._snapshot >= SNAPSHOT_EVERY:
            self._snapshot = state.version
            await self._services.snapshots.save(run.id, state)


def _status(state: RunState, then: Then) -> Status:
    if state.status is RunStatus.RUNNING and isinstance(then, Yield):
        return "paused" if state.paused else "waiting"
    return state.status.value
