"""A run's state is a fold of its events. Everything about what an event does to a run is in this file.

    state = evolve(None, RunStarted(...)); state = evolve(state, NodeCompleted(...)); …

`evolve` does no I/O and reads no clock. It owns the state it is given and changes it in place: a run of n events folds
in n steps and not in n copies. A snapshot is this Struct, encoded, beside a checksum of this file: a snapshot made by
another version of the fold is as good as none.
"""

from __future__ import annotations

from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from executor.workflow.facts import (
    NodeCompleted,
    NodeFailed,
    NodeSkipped,
    RunCompleted,
    RunFact,
    RunFailed,
    RunParked,
    RunStarted,
)


class RunStatus(Enum):
    """Where a run stands. Only RUNNING goes on by itself."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PARKED = "parked"


class Done(msgspec.Struct, tag=True):
    """The node completed; its output stands for good."""

    output: Any


class Skipped(msgspec.Struct, tag=True):
    """The node does not run."""

    reason: str


class Retrying(msgspec.Struct, tag=True):
    """`attempt` attempts failed; the next may start at `at` (Unix seconds)."""

    attempt: int
    at: float


class Broken(msgspec.Struct, tag=True):
    """The node failed for good."""

    attempt: int
    error: str


NodeState = Done | Skipped | Retrying | Broken


class RunState(msgspec.Struct):
    """A run after `version + 1` events. A node that is not in `nodes` was not tried yet (or was in flight)."""

    workflow: str
    workflow_hash: str
    delivery_id: UUID
    started_at: float
    replay_of: UUID | None = None
    traceparent: str | None = None
    status: RunStatus = RunStatus.RUNNING
    version: int = 0
    nodes: dict[str, NodeState] = {}
    error: str | None = None


def evolve(state: RunState | None, fact: RunFact) -> RunState:
    """The state after one more event.

    Raises:
        ValueError: the first event is not `run.started`, or a second one is.
    """
    if state is None:
        if not isinstance(fact, RunStarted):
            raise ValueError(f"expected run.started as the first event, got {type(fact).__name__}")
        return RunState(
            workflow=fact.workflow,
            workflow_hash=fact.workflow_hash,
            delivery_id=fact.delivery_id,
            started_at=fact.at,
            replay_of=fact.replay_of,
            traceparent=fact.traceparent,
        )
    state.version += 1
    match fact:
        case NodeCompleted():
            state.nodes[fact.node] = Done(fact.output)
        case NodeFailed(retry_at=None):
            state.nodes[fact.node] = Broken(fact.attempt, f"{fact.node}: {fact.kind}: {fact.message}")
        case NodeFailed(retry_at=float() | int() as at):
            state.nodes[fact.node] = Retrying(fact.attempt, at)
        case NodeSkipped():
            state.nodes[fact.node] = Skipped(fact.reason)
        case RunCompleted():
            state.status = RunStatus.COMPLETED
        case RunFailed():
            state.status, state.error = RunStatus.FAILED, fact.error
        case RunParked():
            state.status, state.error = RunStatus.PARKED, fact.reason
        case RunStarted():
            raise ValueError("expected run.started only once")
    return state
