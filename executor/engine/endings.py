"""Whom a run tells that it ends: the run that waits for it, and the runs that it waits for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never
from uuid import UUID

from events.runs import Effect, Tell
from executor.engine.held import Held
from executor.workflow.facts import Ending, RunCancelled, RunCompleted, RunFailed, RunFailing, RunParked
from executor.workflow.signals import Cancel, ChildEnded, encode
from executor.workflow.state import Items, NodeState, Waiting
from executor.workflow.waits import ForChild


def farewells(run: Held, fact: RunFailing | Ending) -> list[Effect]:
    """What belongs into the commit of a run's end (or of the begin of its end): children are cancelled, once; the
    parent is told, at the end.
    """
    tells: list[Effect] = []
    if run.state.failing is None:
        for child in children(run.state.nodes):
            tells.append(Tell(child, *encode(Cancel(f"run {run.id}", "the run that waits for it ends"))))
    if run.state.parent is not None and run.state.parent_node is not None:
        ended = _told(run.state.parent_node, run.id, fact)
        if ended is not None:
            tells.append(Tell(run.state.parent, *encode(ended)))
    return tells


def children(nodes: dict[str, NodeState]) -> Iterator[UUID]:
    """The runs that nodes wait for, those in the items of maps too."""
    for node in nodes.values():
        if isinstance(node, Waiting) and isinstance(node.wait, ForChild):
            yield node.wait.run_id
        elif isinstance(node, Items):
            for frame in node.frames.values():
                yield from children(frame)


def _told(node: str, id: UUID, fact: RunFailing | Ending) -> ChildEnded | None:
    match fact:
        case RunCompleted(output):
            return ChildEnded(node, id, "completed", output)
        case RunFailed(error):
            return ChildEnded(node, id, "failed", error=error)
        case RunCancelled(reason):
            return ChildEnded(node, id, "cancelled", error=reason)
        case RunFailing() | RunParked():
            return None
        case _:
            assert_never(fact)
