"""How a run is carried on: plan, do, note, again, until it ends or has to wait.

The holder of the run's token is here; everybody else puts a row somewhere and rings. What it promises:

- A node's outcome is in the log before anything that depends on it begins. A node without effects (`pure`) may be
  computed again, so its outcome waits for the run's next commit.
- An append that finds the token stale raises LeaseLost, and the driver stops where it is: nothing more is written, the
  nodes in flight are cancelled.
- A retry, a timer, a wait hold nothing: the run lets go of its lease, and its work item says when to come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import Enum
from typing import assert_never

import msgspec

from events import faults
from events.errors import LeaseLost
from events.ids import Clock
from events.journal import Journal
from events.runs import Finish, Keep, NewEvent, RunAppend, Status, Then, Yield
from events.telemetry import Telemetry
from executor.engine.attempts import Attempts
from executor.engine.held import Held
from executor.workflow.facts import NodeCompleted, NodeFailed, NodeSkipped, RunFact, encode
from executor.workflow.plan import End, Go, Skip, plan
from executor.workflow.state import RunState, evolve


class Services(msgspec.Struct, frozen=True):
    """What every run of a process shares."""

    clock: Clock
    journal: Journal[RunAppend, bool]
    attempts: Attempts
    telemetry: Telemetry
    draining: asyncio.Event


Noted = NodeCompleted | NodeFailed | NodeSkipped


class Step(Enum):
    """Whether there is more to do."""

    GO_ON = "there is"
    LET_GO = "the run has ended, or sleeps"


class RunDriver:
    """Carries one run on."""

    def __init__(self, run: Held, services: Services) -> None:
        self._run = run
        self._services = services
        self._running: dict[str, asyncio.Task[Noted]] = {}
        self._noted: list[NewEvent] = []  # folded into the state, not yet in the log
        self._owed = False  # whether something with effects is among them

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
            for task in self._running.values():
                task.cancel()
            if self._running:
                await asyncio.wait(self._running.values())

    async def _step(self) -> Step:
        run, now = self._run, self._services.clock.now()
        match plan(run.graph, run.state, now, self._running.keys()):
            case Skip(facts):
                self._note(facts)
                return Step.GO_ON
            case End(fact):
                self._note([fact])
                await self._commit(Finish())
                return Step.LET_GO
            case Go(start, wake):
                if self._services.draining.is_set():
                    return await self._carry((), now)
                return await self._carry(start, wake)
            case impossible:
                assert_never(impossible)

    async def _carry(self, start: tuple[str, ...], wake: float | None) -> Step:
        """Starts nodes and waits for an outcome; with nothing in flight, lets the run go until `wake`."""
        if start and self._owed:
            await self._commit(Keep())
        if len(start) == 1 and wake is None and not self._running:  # a chain needs no task to wait for
            self._note([await self._attempt(start[0])])
            return Step.GO_ON
        for name in start:
            self._running[name] = asyncio.create_task(self._attempt(name))
        if self._running:
            await self._next(wake)
            return Step.GO_ON
        if wake is None:
            raise AssertionError(f"run {self._run.id}: nothing runs, nothing is ready, and it has not ended")
        await self._commit(Yield(wake))
        return Step.LET_GO

    async def _next(self, wake: float | None) -> None:
        """Waits for an outcome, or until `wake`, and notes what is done."""
        patience = None if wake is None or self._services.draining.is_set() else wake - self._services.clock.now()
        done, _ = await asyncio.wait(self._running.values(), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        for name in [name for name, task in self._running.items() if task in done]:
            self._note([self._running.pop(name).result()])
        if self._owed:
            await self._commit(Keep())

    async def _attempt(self, name: str) -> Noted:
        return await self._services.attempts.attempt(self._run, self._run.graph.nodes[name])

    def _note(self, facts: Iterable[RunFact]) -> None:
        run = self._run
        for fact in facts:
            evolve(run.state, fact)
            type, body = encode(fact)
            self._noted.append(NewEvent(run.state.version, type, body))
            if isinstance(fact, NodeCompleted | NodeFailed):
                if isinstance(fact, NodeCompleted):
                    run.scope["nodes"][fact.node] = {"output": fact.output}
                self._owed = self._owed or not run.graph.nodes[fact.node].pure

    async def _commit(self, then: Then) -> None:
        run = self._run
        faults.point("run.commit.before")
        current = await self._services.journal.append(
            RunAppend(
                run.id,
                run.token,
                run.state.version,
                _status(run.state, then),
                tuple(self._noted),
                then,
                run.state.error,
            )
        )
        if not current:
            raise LeaseLost(f"run {run.id}: token {run.token} is not current any more")
        faults.point("run.commit.after")
        self._noted.clear()
        self._owed = False


def _status(state: RunState, then: Then) -> Status:
    if state.status.value == "running" and isinstance(then, Yield):
        return "waiting"
    return state.status.value
