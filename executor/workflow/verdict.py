"""From one attempt's outcome to the fact that is noted: completed, failed and tried again, or failed for good."""

from __future__ import annotations

from uuid import UUID

from executor.workflow.facts import NodeCompleted, NodeFailed
from executor.workflow.graph import GraphNode
from executor.workflow.outcomes import Completed, Failed, Outcome


def judge(
    node: GraphNode, run_id: UUID, attempt: int, outcome: Outcome, *, now: float, seconds: float
) -> NodeCompleted | NodeFailed:
    """The fact that an attempt comes to.

    Args:
        attempt: 1 is the first.
        now: Unix seconds by the database's clock; `retry_at` counts from here.
        seconds: how long the attempt took.
    """
    match outcome:
        case Completed(output):
            return NodeCompleted(node.name, attempt, output, seconds)
        case Failed(kind, message, retry_after):
            retry_at = None
            retry = node.retry
            if retry is not None and attempt < retry.max_attempts and (not retry.on or kind in retry.on):
                delay = retry.backoff.delay(attempt, run_id.bytes + node.name.encode())
                retry_at = now + max(delay, retry_after or 0.0)
            return NodeFailed(node.name, attempt, kind, message, retry_at, seconds)
