"""A run's state is a fold of its events. Everything about what an event does to a run is in this file.

    state = evolve(None, RunStarted(...)); state = evolve(state, NodeCompleted(...)); …

`evolve` does no I/O and reads no clock. It owns the state it is given and changes it in place: a run of n events folds
in n steps and not in n copies. A snapshot is this Struct, encoded, beside a checksum of the fold's files: a snapshot
made by another version of the fold is as good as none. What a state holds does not grow with the items that a `map` has
finished, nor with outputs that are large: those stay in their events.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from executor.workflow.facts import (
    ItemEnded,
    NodeCompleted,
    NodeDeferred,
    NodeFailed,
    NodeMapped,
    NodeSkipped,
    NodeWaiting,
    RunCancelled,
    RunCancelling,
    RunCompleted,
    RunFact,
    RunFailed,
    RunFailing,
    RunParked,
    RunPaused,
    RunReopened,
    RunResumed,
    RunStarted,
    SignalReceived,
)
from executor.workflow.paths import item_prefix, steps
from executor.workflow.waits import ForChild, ForEvent, Wait


class RunStatus(Enum):
    """Where a run stands. Only RUNNING goes on by itself."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PARKED = "parked"


class Done(msgspec.Struct, tag=True, omit_defaults=True):
    """The node completed; its output stands for good, here or, if it is `large`, in the event of that `version`."""

    output: Any
    version: int
    large: int = 0


class Skipped(msgspec.Struct, tag=True, omit_defaults=True):
    """The node does not run. `failed`: because of a failure somewhere before it."""

    reason: str
    failed: bool = False


class Retrying(msgspec.Struct, tag=True):
    """`attempt` attempts failed; the next may start at `at` (Unix seconds). It was put off `deferred` times."""

    attempt: int
    at: float
    deferred: int = 0


class Waiting(msgspec.Struct, tag=True):
    """The node waits, until `until` (Unix seconds) at the longest."""

    attempt: int
    wait: Wait
    until: float | None


class Items(msgspec.Struct, tag=True):
    """A `map` at work. Items begin in their order: those below `next` began, of those `frames` has the ones that have
    not ended, each with the states of its nodes. `failed`: the items that ended with an error, `error` the first one.
    `again`: the items that failed before the run was reopened and did not begin again, the next one last.
    """

    count: int
    next: int = 0
    frames: dict[int, dict[str, NodeState]] = {}
    failed: list[int] = []
    error: str = ""
    again: list[int] = []

    def frame(self, index: int) -> dict[str, NodeState]:
        """The states of an item's nodes. An item that is seen for the first time begins, and those before it."""
        while self.next <= index:
            self.frames[self.next] = {}
            self.next += 1
        if index not in self.frames:
            place = next(at for at in range(len(self.again) - 1, -1, -1) if self.again[at] == index)
            del self.again[place]  # near the end, where those in flight are: this costs nothing
            self.frames[index] = {}
        return self.frames[index]


class Broken(msgspec.Struct, tag=True, omit_defaults=True):
    """The node failed for good. `items`: where a map stood, for a retry that keeps what is done."""

    attempt: int
    error: str
    items: Items | None = None


NodeState = Done | Skipped | Retrying | Waiting | Items | Broken


class RunState(msgspec.Struct):
    """A run after `version + 1` events. A node that is not in `nodes` was not tried yet (or was in flight).

    `since`: when it started or was last reopened; the run's timeout counts from there. `failing`: why it will end as
    failed or cancelled once what it did is undone. `cancelled`: somebody asked for its end, and why. `inbox`: the last
    row of the inbox that was read. `matched`: the deliveries that ended a wait of this run.
    """

    workflow: str
    workflow_hash: str
    delivery_id: UUID
    started_at: float
    since: float
    replay_of: UUID | None = None
    traceparent: str | None = None
    parent: UUID | None = None
    parent_node: str | None = None
    depth: int = 0
    input: Any = None
    edited: Any = msgspec.UNSET
    lane: UUID | None = None
    deliveries: tuple[UUID, ...] = ()
    status: RunStatus = RunStatus.RUNNING
    version: int = 0
    inbox: int = 0
    paused: bool = False
    cancelled: str | None = None
    failing: str | None = None
    nodes: dict[str, NodeState] = {}
    matched: list[str] = []
    output: Any = None
    error: str | None = None


def evolve(state: RunState | None, fact: RunFact) -> RunState:  # noqa: PLR0912 - one case for each type of event
    """The state after one more event.

    Raises:
        ValueError: the first event is not `run.started`, or a second one is.
    """
    if state is None:
        if not isinstance(fact, RunStarted):
            raise ValueError(f"expected run.started as the first event, got {type(fact).__name__}")
        return _started(fact)
    state.version += 1
    match fact:
        case (
            NodeCompleted() | NodeFailed() | NodeDeferred() | NodeSkipped() | NodeWaiting() | NodeMapped() | ItemEnded()
        ):
            _node(state, fact)
        case SignalReceived():
            state.inbox = fact.seq
        case RunPaused():
            state.inbox, state.paused = fact.seq, True
        case RunResumed():
            state.inbox, state.paused = fact.seq, False
        case RunCancelling():
            state.inbox, state.cancelled, state.paused = fact.seq, _by(fact), False
        case RunFailing():
            state.failing = fact.error
        case RunReopened():
            _reopen(state, fact)
        case RunCompleted():
            state.status, state.output = RunStatus.COMPLETED, fact.output
        case RunFailed():
            state.status, state.error = RunStatus.FAILED, fact.error
        case RunCancelled():
            state.status, state.error = RunStatus.CANCELLED, fact.reason
        case RunParked():
            state.status, state.error = RunStatus.PARKED, fact.reason
        case RunStarted():
            raise ValueError("expected run.started only once")
    return state


def _started(fact: RunStarted) -> RunState:
    return RunState(
        workflow=fact.workflow,
        workflow_hash=fact.workflow_hash,
        delivery_id=fact.delivery_id,
        started_at=fact.at,
        since=fact.at,
        replay_of=fact.replay_of,
        traceparent=fact.traceparent,
        parent=fact.parent,
        parent_node=fact.parent_node,
        depth=fact.depth,
        input=fact.input,
        edited=fact.edited,
        lane=fact.lane,
        deliveries=fact.deliveries,
    )


def _node(
    state: RunState,
    fact: NodeCompleted | NodeFailed | NodeDeferred | NodeSkipped | NodeWaiting | NodeMapped | ItemEnded,
) -> None:
    nodes, name = place(state.nodes, fact.node) if "[" in fact.node else (state.nodes, fact.node)
    match fact:
        case NodeCompleted():
            if isinstance(before := nodes.get(name), Waiting) and isinstance(fact.output, dict):
                _matched(state, before, fact.output)
            nodes[name] = Done(None if fact.large else fact.output, state.version, fact.large)
        case NodeFailed(retry_at=None):
            before = nodes.get(name)
            items = before if isinstance(before, Items) else None
            nodes[name] = Broken(fact.attempt, f"{fact.node}: {fact.kind}: {fact.message}", items)
        case NodeFailed(retry_at=float() | int() as at):
            nodes[name] = Retrying(fact.attempt, at)
        case NodeDeferred():
            nodes[name] = Retrying(fact.attempt - 1, fact.until, fact.count)
        case NodeSkipped():
            nodes[name] = Skipped(fact.reason, fact.failed)
        case NodeWaiting():
            nodes[name] = Waiting(fact.attempt, fact.wait, fact.until)
        case NodeMapped():
            nodes[name] = Items(fact.count)
        case ItemEnded():
            _item(nodes[name], fact)


def _item(items: NodeState, fact: ItemEnded) -> None:
    assert isinstance(items, Items)
    items.frame(fact.index)
    del items.frames[fact.index]
    if fact.error is not None:
        items.failed.append(fact.index)
        items.error = items.error or fact.error


def place(nodes: dict[str, NodeState], path: str) -> tuple[dict[str, NodeState], str]:
    """The states that a node's is among, and its name there."""
    outer, name = steps(path)
    for map_name, index in outer:
        items = nodes[map_name]
        assert isinstance(items, Items)
        nodes = items.frame(index)
    return nodes, name


def event_waits(nodes: dict[str, NodeState], prefix: str = "") -> Iterator[str]:
    """The paths of the nodes that wait for an event."""
    for name, node in nodes.items():
        if isinstance(node, Waiting) and isinstance(node.wait, ForEvent):
            yield prefix + name
        elif isinstance(node, Items):
            for index, frame in node.frames.items():
                yield from event_waits(frame, item_prefix(prefix + name, index))


def _matched(state: RunState, waiting: Waiting, output: dict[str, Any]) -> None:
    if isinstance(waiting.wait, ForEvent) and isinstance(id := output.get("id"), str):
        state.matched.append(id)


def _by(fact: RunCancelling) -> str:
    return f"cancelled by {fact.by}" + (f": {fact.reason}" if fact.reason else "")


def _reopen(state: RunState, fact: RunReopened) -> None:
    state.inbox, state.since = fact.seq, fact.at
    state.status, state.error = RunStatus.RUNNING, None
    state.paused, state.cancelled, state.failing = False, None, None
    for path in fact.nodes:
        before = state.nodes.pop(path, None)
        if isinstance(before, Broken) and before.items is not None:
            state.nodes[path] = before.items
    for node in state.nodes.values():
        if isinstance(node, Items):
            _afresh(node)


def _afresh(items: Items) -> None:
    """A map that goes on after the run had ended: items that failed begin again, others keep what is done in them."""
    items.again = sorted({*items.again, *items.failed}, reverse=True)
    items.failed, items.error = [], ""
    for nodes in items.frames.values():
        for name, node in list(nodes.items()):
            found = node.items if isinstance(node, Broken) else node
            if isinstance(found, Items):
                nodes[name] = found
                _afresh(found)
            elif isinstance(node, Broken | Retrying) or forlorn(node) or (isinstance(node, Skipped) and node.failed):
                del nodes[name]


def forlorn(node: NodeState) -> bool:
    """Whether a node waits for what nobody tells a run that has ended: it has to ask anew."""
    return isinstance(node, Waiting) and isinstance(node.wait, ForEvent | ForChild)
