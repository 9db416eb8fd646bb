"""From one attempt's outcome to the fact that is noted: completed, failed and tried again, or failed for good."""

from __future__ import annotations

from uuid import UUID

from executor.workflow.facts import NodeCompleted, NodeFailed
from executor.workflow.graph import GraphNode
from executor.workflow.outcomes import Completed, Failed, Outcome


def judge(
    node: GraphNode, path: str, run_id: UUID, attempt: int, outcome: Outcome, *, now: float, seconds: float
) -> NodeCompleted | NodeFailed:
    """The fact that an attempt comes to.

    Args:
        path: where the node stands in the run.
        attempt: 1 is the first.
        now: Unix seconds by the database's clock; `retry_at` counts from here.
        seconds: how long the attempt took.
    """
    match outcome:
        case Completed(output, large):
            return NodeCompleted(path, attempt, output, seconds, large)
        case Failed(kind, message, retry_after):
            at = retry_at(node, path, run_id, attempt, kind, now, retry_after or 0.0)
            return NodeFailed(path, attempt, kind, message, at, seconds)


def retry_at(  # noqa: PLR0917 - one row of facts
    node: GraphNode, path: str, run_id: UUID, attempt: int, kind: str, now: float, least: float = 0.0
) -> float | None:
    """When a failed attempt is followed by another (Unix seconds), or None. `least`: seconds to wait at least."""
    retry = node.retry
    if retry is None or attempt >= retry.max_attempts or (retry.on and kind not in retry.on):
        return None
    return now + max(retry.backoff.delay(attempt, run_id.bytes + path.encode()), least)
