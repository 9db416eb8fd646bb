"""Whatever claims, leases that run out, appends, signals and crashes come in whatever order: the work list and the log
stand as a simple model says.

The model knows what each holder was given, and that a token which is not the newest is worth nothing. After each step
everything is compared: so a run has one writer, no event of a stale token is in the log, versions have no gaps, and a
run with something unread is held, due, or paused after a failure for a known time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from events.control import Start, start
from events.database import Database
from events.ids import uuid7
from events.inbox import Ended, Message, read, send
from events.runs import Finish, Keep, NewEvent, NewRun, RunAppend, RunWriter, Status, Tell, Then, Yield
from events.work import WorkList

RUNS = 3
LATER = 4e9
_numbers = itertools.count()

Result = TypeVar("Result")

SEEN = """
SELECT w.token, w.owner IS NOT NULL AS leased, w.signal, w.attempt,
  CASE WHEN w.due_at <= clock_timestamp() THEN 'now' WHEN w.due_at = 'infinity' THEN 'never' ELSE 'later' END AS due,
  r.version, r.status,
  ARRAY(SELECT convert_from(i.body, 'UTF8') FROM inbox i WHERE i.stream_id = r.id ORDER BY seq) AS inbox,
  (SELECT max(seq) FROM inbox i WHERE i.stream_id = r.id) AS newest,
  ARRAY(SELECT convert_from(e.body, 'UTF8') FROM event e WHERE e.stream_id = r.id ORDER BY version) AS events,
  ARRAY(SELECT e.version FROM event e WHERE e.stream_id = r.id ORDER BY version) AS versions
FROM run r LEFT JOIN work_item w USING (id) WHERE r.id = $1
"""


class Model:
    """What is to be true of a run."""

    def __init__(self, id: UUID) -> None:
        self.id = id
        self.there, self.leased, self.due = True, False, "now"
        self.token, self.attempt, self.version = 0, 0, 0
        self.seen: int | None = None
        self.read = 0
        self.paused_after_failure = False
        self.inbox: list[str] = []
        self.events = ["started"]
        self.status: Status = "running"
        self.given: list[int] = []

    def told(self, body: str) -> None:
        self.inbox.append(body)
        if not self.leased:
            self.due = "now"

    def let_go(self, due: str, attempt: int) -> None:
        self.leased, self.due, self.attempt = False, due, attempt
        self.token += 1


class Tried(NamedTuple):
    """An append as the model has it. `seq`, `fold`: up to where the inbox is read, and the rows that this answers."""

    run: Model
    token: int
    then: Then
    tells: list[tuple[Model, str]]
    seq: int
    fold: list[str]
    body: str


class Everybody:
    """One database and one loop for all examples; each has a queue of its own."""

    def __init__(self, runner: asyncio.Runner, url: str) -> None:
        self._runner = runner
        self.worker, self.operator = Database(url, "worker"), Database(url, "operator")
        self.do(self.worker.open())
        self.do(self.operator.open())
        self.admin = self.do(asyncpg.connect(url))
        self.writer = RunWriter(self.worker, owner="somebody", lease=1000.0)
        self.work = WorkList(self.worker, owner="somebody", lease=1000.0)

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)

    def close(self) -> None:
        self.do(self.admin.close())
        self.do(self.worker.close())
        self.do(self.operator.close())


one_of_the_runs = st.integers(0, RUNS - 1)
recent = st.integers(0, 2)
"""Whose token: 0 is the newest that was given out, 1 the one before."""
thens = st.sampled_from([Keep(), Keep(), Yield(LATER), Yield(math.inf), Yield(math.inf), Yield(0.0), Finish()])
appends = st.tuples(one_of_the_runs, recent, thens, st.booleans(), st.lists(one_of_the_runs, max_size=2))


class Machine(RuleBasedStateMachine):
    """Steps on three runs."""

    everybody: Everybody

    @initialize()
    def begin(self) -> None:
        self.queue = f"q{next(_numbers)}"
        self.runs = [Model(uuid7(time.time())) for _ in range(RUNS)]
        new = [Start(NewRun(run.id, "w", b"hash", self.queue, b"started", leased=False)) for run in self.runs]
        assert self.everybody.do(start(self.everybody.operator, new)) == [True] * RUNS

    @rule(suspects=st.sampled_from([0, RUNS, RUNS]))
    def claim(self, suspects: int) -> None:
        wanted = {run.id: run for run in self.runs if run.there and run.due == "now" and (suspects or run.attempt < 2)}
        items = self.everybody.do(self.everybody.work.claim(self.queue, RUNS, suspects))
        assert {item.id for item in items} == wanted.keys()
        for item in items:
            run = wanted[item.id]
            run.token += 1
            run.attempt = 1 if run.seen != run.version else run.attempt + 1
            run.seen, run.leased, run.due, run.paused_after_failure = run.version, True, "later", False
            run.given.append(run.token)
            assert (item.token, item.attempt, item.version) == (run.token, run.attempt, run.version)
            assert (item.signal > run.read) == bool(run.inbox)

    @rule(who=one_of_the_runs)
    def time_passes(self, who: int) -> None:
        """A lease runs out, or a moment that was waited for comes. The holder does not notice."""
        run = self.runs[who]
        if run.there and run.due == "later":
            run.due = "now"
            self.everybody.do(self.everybody.admin.execute("UPDATE work_item SET due_at = now() WHERE id = $1", run.id))

    @rule(who=one_of_the_runs, age=recent)
    def renew(self, who: int, age: int) -> None:
        run, held = self._held(who, age)
        current = self._current(run, held)
        assert self.everybody.do(self.everybody.work.renew([(run.id, held)])) == ({run.id} if current else set())
        if current:
            run.due = "later"

    @rule(who=one_of_the_runs, age=recent)
    def give_back(self, who: int, age: int) -> None:
        run, held = self._held(who, age)
        current = self._current(run, held)
        assert self.everybody.do(self.everybody.work.give_back([(run.id, held)])) == ({run.id} if current else set())
        if current:
            run.let_go("now", max(run.attempt - 1, 0))

    @rule(who=one_of_the_runs, age=recent)
    def fail(self, who: int, age: int) -> None:
        run, held = self._held(who, age)
        current = self._current(run, held)
        failed = self.everybody.do(self.everybody.work.fail([(run.id, held)], 1000.0, "died"))
        assert failed == ({run.id} if current else set())
        if current:
            run.let_go("later", run.attempt)
            run.paused_after_failure = True

    @rule(whom=st.lists(one_of_the_runs, min_size=1, max_size=3))
    def signal(self, whom: list[int]) -> None:
        messages = [(self.runs[who], f"signal {next(_numbers)}") for who in whom]
        answers = self.everybody.do(
            send(self.everybody.operator, [Message(run.id, "hello", body.encode()) for run, body in messages])
        )
        for (run, body), answer in zip(messages, answers, strict=True):
            assert isinstance(answer, Ended) == (not run.there)
            if run.there:
                run.told(body)

    @rule(rows=st.lists(appends, min_size=1, max_size=3, unique_by=lambda row: (row[0], row[1])))
    def append(self, rows: list[tuple[int, int, Then, bool, list[int]]]) -> None:
        tried = [self._tried(*row) for row in rows]
        tried = list({(one.run.id, one.token): one for one in tried}.values())
        current = [self._current(one.run, one.token) for one in tried]
        assert self.everybody.do(self.everybody.writer.append([_row(one) for one in tried])) == current
        written = [one for one, counts in zip(tried, current, strict=True) if counts]
        there = {run.id for run in self.runs if run.there}
        for one in written:
            self._written(one)
        for one in written:
            for run, body in one.tells:
                if run.id in there and run.there:
                    run.told(body)
        for one in written:
            if isinstance(one.then, Yield) and one.run.inbox:
                one.run.due = "now"

    def _tried(self, who: int, age: int, then: Then, reads: bool, told: list[int]) -> Tried:
        run, token = self._held(who, age)
        rows = self.everybody.do(read(self.everybody.worker, run.id, run.read)) if reads else []
        tells = [(self.runs[other], f"told {next(_numbers)}") for other in told]
        seq = rows[-1].seq if rows else run.read
        fold = [row.body.decode() for row in rows]
        return Tried(run, token, then, tells, seq, fold, f"{token}: {next(_numbers)}")

    def _written(self, one: Tried) -> None:
        run = one.run
        run.version += 1
        run.events.append(one.body)
        run.inbox = [body for body in run.inbox if body not in one.fold]
        run.read = one.seq
        run.status = _status(one.then)
        match one.then:
            case Finish():
                run.there, run.inbox = False, []
            case Yield(due_at):
                run.let_go("now" if due_at == 0.0 else "never" if due_at == math.inf else "later", 0)

    def _held(self, who: int, age: int) -> tuple[Model, int]:
        """A run and a token that somebody was given for it, if anybody was."""
        run = self.runs[who]
        return run, run.given[max(len(run.given) - 1 - age, 0)] if run.given else 99

    def _current(self, run: Model, token: int) -> bool:
        return run.there and run.token == token

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        for run in self.runs:
            (seen,) = self.everybody.do(self.everybody.admin.fetch(SEEN, run.id))
            assert list(seen["versions"]) == list(range(run.version + 1))
            assert seen["events"] == run.events
            assert (seen["version"], seen["status"]) == (run.version, run.status)
            assert seen["inbox"] == run.inbox
            if not run.there:
                assert seen["token"] is None
                continue
            state = (seen["token"], seen["leased"], seen["attempt"], seen["due"])
            assert state == (run.token, run.leased, run.attempt, run.due)
            assert (seen["signal"] > run.read) == bool(run.inbox)
            assert seen["newest"] in {None, seen["signal"]}
            if run.inbox:
                assert run.leased or run.due == "now" or run.paused_after_failure


def _status(then: Then) -> Status:
    return "failed" if isinstance(then, Finish) else "waiting" if isinstance(then, Yield) else "running"


def _row(one: Tried) -> RunAppend:
    version = one.run.version + 1
    event = NewEvent(version, "node.completed", one.body.encode())
    tells = tuple(Tell(run.id, "hello", body.encode()) for run, body in one.tells)
    return RunAppend(
        one.run.id, one.token, version, _status(one.then), (event,), one.then, inbox=one.seq, effects=tells
    )


@pytest.fixture
def everybody(database_url: str) -> Any:
    with asyncio.Runner() as runner, contextlib.closing(Everybody(runner, database_url)) as all_:
        yield all_


def test_the_work_list_and_the_log_stand_as_the_model_says(everybody: Everybody, model_examples: int) -> None:
    machine = type("OnThisDatabase", (Machine,), {"everybody": everybody})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=model_examples,
            stateful_step_count=40,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
