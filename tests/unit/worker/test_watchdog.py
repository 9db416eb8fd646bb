"""The watchdog, on a clock of the test's own: what is silence, who is to blame, who gets what back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import uvloop
from structlog.testing import capture_logs

from events.database import Database
from events.work import WorkList
from executor import NodeContext, node
from executor.engine.leases import Leases
from executor.engine.node import execute
from executor.engine.processes import KillablePool
from executor.engine.registry import node_type
from executor.worker.handover import reason, share
from executor.worker.watchdog import AGAIN, EVERY, Culprit, Pulse, Silent, Stalled, Turns, Watchdog, culprit

RUN, OTHER, ORPHAN = UUID(int=1), UUID(int=2), UUID(int=3)
PATIENCE = 30.0


class Stage:
    """A loop in a thread, a run that is held in it, and a node there that blocks until `release`."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.leases = Leases(WorkList(Database("", "worker"), owner="me", lease=30.0))
        self.blocking, self.release = threading.Event(), threading.Event()
        self.now = 100.0
        self.handed: list[tuple[Culprit | None, float]] = []
        self.replaced = 0
        self.watchdog = self.watch(stall=4 * EVERY)
        self.thread.start()

    def watch(self, stall: float) -> Watchdog:
        def replace() -> None:
            self.replaced += 1
            self.watchdog._stopping.set()

        return Watchdog(
            self.loop,
            self.thread,
            self.leases,
            stall=stall,
            hand_over=lambda blamed, seconds: self.handed.append((blamed, seconds)),
            replace=replace,
            clock=lambda: self.now,
        )

    def look(self, after: float = EVERY) -> bool:
        self.now += after
        return self.watchdog.look()

    def settle(self) -> None:
        """Returns when the loop has done what it was asked."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(PATIENCE)

    def block(self, *, in_task: bool = False, in_node: bool = True) -> None:
        """A node, or the engine itself, begins to block."""

        def hold() -> None:
            self.blocking.set()
            assert self.release.wait(PATIENCE)

        async def hold_in_task() -> None:
            hold()

        @node("blocks")
        async def blocks() -> None:
            await asyncio.create_task(hold_in_task()) if in_task else hold()

        async def run() -> None:
            if in_node:
                context = NodeContext(RUN, "orders", "step", 1, 0.0)
                await execute(node_type(blocks), context, {}, PATIENCE, KillablePool(1))
            else:
                hold()

        async def begin() -> None:
            self.leases.hold(RUN, 7, asyncio.create_task(run()))
            self.leases.hold(OTHER, 8, asyncio.create_task(asyncio.sleep(PATIENCE)))

        asyncio.run_coroutine_threadsafe(begin(), self.loop)
        assert self.blocking.wait(PATIENCE)

    def unblock(self) -> None:
        self.release.set()
        self.settle()
        self.blocking.clear()
        self.release.clear()

    def close(self) -> None:
        self.release.set()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def test_silence_adds_up_until_the_loop_is_given_up() -> None:
    pulse = Pulse(stall=4 * EVERY)
    looks = [pulse.look(EVERY, answered=answered) for answered in (True, False, False, True, True, *[False] * 4)]
    assert looks == [
        *(Turns(0.0), Silent(EVERY), Silent(2 * EVERY), Turns(2 * EVERY), Turns(0.0)),
        *(Silent(EVERY), Silent(2 * EVERY), Silent(3 * EVERY), Stalled(4 * EVERY)),
    ]


def test_a_process_that_was_stopped_for_an_hour_has_not_stalled() -> None:
    assert Pulse(stall=10.0).look(3600.0, answered=False) == Silent(2 * EVERY)


def test_a_loop_that_turns_is_left_alone(stage: Stage) -> None:
    for _ in range(50):
        assert not stage.look()
        stage.settle()
    assert (stage.handed, stage.replaced) == ([], 0)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, Culprit(RUN, "blocks", "step")),
        ({"in_task": True}, Culprit(RUN, "blocks", "step")),
        ({"in_node": False}, Culprit(RUN)),
    ],
    ids=["in the node", "in a task of the node", "in the engine"],
)
def test_who_blocks_is_known(stage: Stage, how: dict[str, Any], expected: Culprit) -> None:
    stage.look()
    stage.block(**how)
    while not stage.look():
        pass
    assert stage.handed == [(expected, 4 * EVERY)]
    assert stage.replaced == 1


def test_what_blocks_outside_of_any_task_is_nobodys(stage: Stage) -> None:
    def hold() -> None:
        stage.blocking.set()
        stage.release.wait(PATIENCE)

    stage.loop.call_soon_threadsafe(hold)
    assert stage.blocking.wait(PATIENCE)
    assert culprit(stage.loop, stage.leases) is None


def test_a_block_that_ends_is_a_warning_once_a_minute(stage: Stage) -> None:
    stage.watchdog = stage.watch(stall=60.0)
    with capture_logs() as logs:
        for pause in (0.0, 0.0, AGAIN):
            stage.now += pause
            stage.look()
            stage.block()
            for _ in range(8):
                stage.look()
            stage.unblock()
            stage.look()
            stage.settle()
    said = [(entry["event"], entry["seconds"], entry["uses"]) for entry in logs]
    assert len(said) == 2
    assert {(event, uses) for event, _, uses in said} == {("loop.blocked", "blocks")}
    assert all(7 * EVERY <= seconds <= 9 * EVERY for _, seconds, _ in said)
    assert stage.handed == []


def test_only_what_blocked_has_its_attempt_counted(stage: Stage) -> None:
    stage.block()
    stage.leases.orphan(ORPHAN, 9)
    assert share(stage.leases, Culprit(RUN, "blocks", "step")) == ([(RUN, 7)], [(OTHER, 8), (ORPHAN, 9)])
    assert share(stage.leases, None) == ([(RUN, 7), (OTHER, 8)], [(ORPHAN, 9)]), "as in a crash"
    assert share(stage.leases, Culprit(ORPHAN)) == ([], [(RUN, 7), (OTHER, 8), (ORPHAN, 9)]), "left behind, not held"


@pytest.mark.parametrize(
    ("blamed", "words"),
    [
        (Culprit(RUN, "blocks", "step"), ["'step'", "(blocks)", "10.2 s", "make it a plain `def`"]),
        (Culprit(RUN), ["10.2 s", "outside of any node"]),
        (None, ["10.2 s", "outside of any node"]),
    ],
)
def test_the_reason_says_who_and_for_how_long(blamed: Culprit | None, words: list[str]) -> None:
    assert all(word in reason(blamed, 10.2) for word in words)


def test_a_closed_loop_ends_the_watch() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    no_one: Callable[..., None] = lambda *_: None  # noqa: E731
    leases = Leases(WorkList(Database("", "worker"), owner="me", lease=30.0))
    watchdog = Watchdog(loop, threading.Thread(), leases, stall=1.0, hand_over=no_one, replace=no_one)
    assert watchdog.look()
