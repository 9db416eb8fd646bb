"""The short form of `make faults`, and its checker, which fails on logs that were doctored in every way it names."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from events.ids import derived_id, uuid7
from executor.cli.embedded import scratch
from executor.engine.context import NodeContext
from tests.faultrun.check import Told, Verdict, calling, judge, key_of
from tests.faultrun.injuries import INJURIES, schedule
from tests.faultrun.log_rows import Head, Log, Row, read
from tests.faultrun.members import Frozen
from tests.faultrun.proxy import Proxy
from tests.faultrun.run import Plan, fault_run
from tests.faultrun.sink import Call
from tests.faultrun.world import left_out

pytestmark = pytest.mark.anyio

DELIVERY = uuid7(1_000_000.0)
RUN = derived_id(DELIVERY, "chain")
CHILD, LANE = derived_id(DELIVERY, "child"), derived_id(DELIVERY, "lane")
TOLD = Told({"event-0": DELIVERY}, [], {"chain": frozenset({"one"})})


def row(stream: UUID, version: int, type: str, at: float = 10.0, **body: object) -> Row:
    return Row(stream, version, type, at, body)


EVENTS = (
    row(DELIVERY, 0, "delivery.received", key="event-0"),
    row(DELIVERY, 1, "delivery.routed"),
    row(RUN, 0, "run.started"),
    row(RUN, 1, "node.completed", 20.0, node="one"),
    row(RUN, 2, "run.completed", 20.0),
)
LOG = Log(EVENTS, {RUN: Head("chain", "completed", 2, DELIVERY)}, 0)
CALLS = (Call(key_of(RUN, "one"), 18.0, 500), Call(key_of(RUN, "one"), 19.0, 200))


def verdict(log: Log = LOG, calls: tuple[Call, ...] = CALLS, told: Told = TOLD) -> Verdict:
    return judge(log, calls, told)


def counts(found: Verdict) -> tuple[int, int, int]:
    return len(found.lost), len(found.doubled), len(found.stuck)


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    found = verdict()
    assert found.good, found
    assert found.line(7) == "faults: 1 events, 1 runs, 7 faults, 0 lost, 0 doubled, 0 stuck"


def without(log: Log, type: str) -> Log:
    return msgspec.structs.replace(log, events=tuple(row for row in log.events if row.type != type))


def also(log: Log, *rows: Row) -> Log:
    return msgspec.structs.replace(log, events=(*log.events, *rows))


def head(log: Log, **changes: object) -> Log:
    return msgspec.structs.replace(log, runs={RUN: msgspec.structs.replace(log.runs[RUN], **changes)})


OTHER, SECOND = uuid4(), uuid4()
DOCTORED: dict[str, tuple[Callable[[Log], Log], str]] = {
    "an event that is not in the log": (
        lambda log: Log(tuple(row for row in log.events if row.stream != DELIVERY), log.runs, 0),
        "event-0 was acknowledged",
    ),
    "an event that was not routed": (lambda log: without(log, "delivery.routed"), "was routed"),
    "an event without its run": (
        lambda log: Log(tuple(row for row in log.events if row.stream == DELIVERY), {}, 0),
        "has a run of chain",
    ),
    "an event twice": (
        lambda log: also(log, row(OTHER, 0, "delivery.received", key="event-0"), row(OTHER, 1, "delivery.routed")),
        f"event-0 is in the log as {DELIVERY} and {OTHER}",
    ),
    "an event routed twice": (lambda log: also(log, row(DELIVERY, 2, "delivery.routed")), "2 times: event-0"),
    "a run too many": (
        lambda log: msgspec.structs.replace(
            also(log, row(SECOND, 0, "run.completed")),
            runs=log.runs | {SECOND: Head("chain", "completed", 0, DELIVERY)},
        ),
        "2 times: event-0",
    ),
    "a version that is missing": (lambda log: without(log, "node.completed"), f"{RUN}: no version 1"),
    "a version twice": (lambda log: also(log, row(RUN, 2, "run.completed")), f"{RUN}: version 2 twice"),
    "a node that completed twice": (
        lambda log: head(
            Log(
                (*log.events[:-1], row(RUN, 2, "node.completed", node="one"), row(RUN, 3, "run.completed")), log.runs, 0
            ),
            version=3,
        ),
        "one completed twice",
    ),
    "an event after the end": (
        lambda log: head(also(log, row(RUN, 3, "node.failed", node="two"), row(RUN, 4, "run.completed")), version=4),
        "node.failed (version 3) after run.completed",
    ),
    "a head that is behind": (lambda log: head(log, version=1), "its head says version 1, its stream 2"),
    "a head that says otherwise": (lambda log: head(log, status="failed"), "its head says failed"),
    "a run without an end": (
        lambda log: head(without(log, "run.completed"), version=1, status="running"),
        "ends with node.completed",
    ),
    "a run that failed": (
        lambda log: head(also(without(log, "run.completed"), row(RUN, 2, "run.failed", error="why")), status="failed"),
        "(chain) failed: why",
    ),
    "two runs of a lane at once": (
        lambda log: Log(
            (*log.events, row(CHILD, 0, "run.started", 15.0), row(CHILD, 1, "run.completed", 25.0)),
            {
                RUN: msgspec.structs.replace(log.runs[RUN], lane=LANE),
                CHILD: Head("chain", "completed", 1, DELIVERY, True, LANE),
            },
            0,
        ),
        "before",
    ),
    "work that is left": (lambda log: msgspec.structs.replace(log, work=2), "2 work items are left"),
}
KINDS = {
    "lost": {
        "an event that is not in the log",
        "an event that was not routed",
        "an event without its run",
        "a version that is missing",
        "a run that failed",
    },
    "stuck": {"a run without an end", "work that is left"},
}


@pytest.mark.parametrize("name", DOCTORED)
def test_the_checker_finds(name: str) -> None:
    doctor, what = DOCTORED[name]
    kind = next((kind for kind, names in KINDS.items() if name in names), "doubled")
    found = verdict(doctor(LOG))
    assert not found.good
    assert any(what in finding for finding in getattr(found, kind)), found


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        (CALLS[:1], (1, 0, 0)),  # never answered well
        ((), (1, 0, 0)),
        ((*CALLS, Call(key_of(RUN, "one"), 20.1, 200)), (0, 1, 0)),  # again, after it had completed
        ((*CALLS, Call(key_of(OTHER, "one"), 15.0, 200)), (0, 1, 0)),  # of a run that nobody knows
    ],
)
def test_the_checker_believes_the_sink(calls: tuple[Call, ...], expected: tuple[int, int, int]) -> None:
    assert counts(verdict(calls=calls)) == expected


@pytest.mark.parametrize(
    ("since", "until", "excused"),
    [(15.0, 25.0, True), (21.0, 25.0, False), (15.0, 23.0, False), (15.0, 25.5, False)],
    ids=["frozen meanwhile", "frozen later", "thawed long ago", "still frozen"],
)
def test_only_a_worker_that_was_frozen_meanwhile_may_call_late(since: float, until: float, excused: bool) -> None:
    late = (*CALLS, Call(key_of(RUN, "one"), 25.2, 200))
    told = msgspec.structs.replace(TOLD, frozen=[Frozen("worker-1", since, until)])
    found = verdict(calls=late, told=told)
    assert (found.good, found.late) == (excused, int(excused))


def test_an_event_that_was_never_acknowledged_is_stuck() -> None:
    assert counts(verdict(told=msgspec.structs.replace(TOLD, given_up=["event-9"]))) == (0, 0, 1)


def test_an_event_may_be_acknowledged_under_another_id_than_its_firsts() -> None:
    found = verdict(told=msgspec.structs.replace(TOLD, acknowledged={"event-0": OTHER}))
    assert (found.good, found.renamed) == (True, 1)


def test_a_node_of_a_reopened_run_may_complete_again() -> None:
    rows = (
        row(RUN, 3, "run.reopened", 30.0),
        row(RUN, 4, "node.completed", 40.0, node="one"),
        row(RUN, 5, "run.completed", 40.0),
    )
    again = (*CALLS, Call(key_of(RUN, "one"), 39.0, 200))
    assert verdict(head(also(LOG, *rows), version=5), again).good


def test_the_checkers_key_is_the_nodes() -> None:
    assert key_of(RUN, "one") == NodeContext(RUN, "chain", "one", 1, 0.0).idempotency_key


def test_workflows_that_an_event_starts_are_expected() -> None:
    node = {"uses": "http.request"}
    documents: list[dict[str, object]] = [
        {"workflow": "a", "on": [], "nodes": {"x": node, "y": {"uses": "transform"}}},
        {"workflow": "b"},
    ]
    assert calling(documents) == {"a": frozenset({"x"})}


async def test_the_log_is_read_as_it_is(database_url: str) -> None:
    """A real database, with rows that no process of ours wrote."""
    delivery = uuid7(time.time())
    run = derived_id(delivery, "chain")
    connection = await asyncpg.connect(database_url)
    try:
        for stream, version, type, body in (
            (delivery, 0, "delivery.received", {"key": "event-0"}),
            (run, 0, "run.started", {}),
            (run, 2, "node.completed", {"node": "one"}),
        ):
            await connection.execute(
                "INSERT INTO event (stream_id, version, workspace_id, type, body) VALUES ($1, $2, 1, $3, $4)",
                stream,
                version,
                type,
                json.dumps(body).encode(),
            )
        await connection.execute(
            "INSERT INTO run (id, workspace_id, workflow, workflow_hash, status, version, delivery_id) "
            "VALUES ($1, 1, 'chain', 'x', 'running', 2, $2)",
            run,
            delivery,
        )
        await connection.execute(
            "INSERT INTO work_item (id, stream_id, kind, queue) VALUES ($1, $1, 1, 'webhook')", run
        )
    finally:
        await connection.close()
    log = await read(database_url)
    found = judge(log, [], Told({"event-0": delivery, "event-1": OTHER}, [], {"chain": frozenset({"one"})}))
    assert any("event-1 was acknowledged" in finding for finding in found.lost)
    assert any("was routed" in finding for finding in found.lost)
    assert any(f"{run}: no version 1" in finding for finding in found.lost)
    assert any("one completed without a call" in finding for finding in found.lost)
    assert any("1 work items" in finding for finding in found.stuck)
    assert any("ends with node.completed" in finding for finding in found.stuck)
    assert counts(found) == (4, 0, 2)


def test_a_seed_gives_the_same_schedule_with_every_kind_of_fault() -> None:
    once, again = (schedule(7, 40, 60.0) for _ in range(2))
    assert once == again != schedule(8, 40, 60.0)
    assert {planned.injury for planned in once} == set(INJURIES)
    assert [planned.at for planned in once] == sorted(planned.at for planned in once)
    assert all(0 <= planned.at <= 60 for planned in once)


async def test_a_dropped_reply_is_one_whose_commit_happened(database_url: str) -> None:
    port = int(database_url.rpartition(":")[2].partition("/")[0])
    async with Proxy(port) as proxy:
        connection = await asyncpg.connect(database_url.replace(f":{port}/", f":{proxy.port}/"))
        await connection.execute("CREATE TABLE noted (number int)")
        insert = "INSERT INTO noted VALUES ($1)"
        cut = asyncio.create_task(proxy.cut(2, 30.0))
        await asyncio.sleep(0)
        await connection.execute(insert, 1)
        assert await connection.fetchval("SELECT count(*) FROM noted") == 1, "reading does not count"
        with pytest.raises((OSError, asyncpg.PostgresConnectionError)):
            await connection.execute(insert, 2)
        assert await cut
        direct = await asyncpg.connect(database_url)
        assert await direct.fetchval("SELECT count(*) FROM noted") == 2
        await direct.close()
        assert proxy.cuts == 1


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_a_short_fault_run_finds_nothing(record_property: Callable[[str, object], None]) -> None:
    for what in left_out():
        print(what)
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    with scratch() as directory:
        outcome = await fault_run(Plan(seed, events=300, seconds=10.0, faults=12, patience=60.0), directory, print)
    record_property("faults", outcome.line())
    print(outcome.line(), *outcome.notes, sep="\n")
    assert outcome.verdict.good, outcome.verdict
    assert outcome.faults.total() >= 8, "a dropped reply may find too little to drop, all others come"
