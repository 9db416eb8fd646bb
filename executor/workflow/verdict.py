"""From one attempt's outcome to the fact that is noted: completed, put off, failed and tried again, or failed for good.

What is put off waits as long as the other side asked, and longer each time (`DEFERRAL`), so that one that always says
"later" fills no log: after `MOST_DEFERRALS` in a row (16 hours at least) it has failed with the kind `deferred`.
"""

from __future__ import annotations

from uuid import UUID

from executor.workflow.backoff import Backoff
from executor.workflow.facts import NodeCompleted, NodeDeferred, NodeFailed
from executor.workflow.graph import GraphNode
from executor.workflow.outcomes import Completed, Deferred, Failed, Outcome

DEFERRAL = Backoff(first=1.0, factor=2.0, max=1800.0, jitter=0.5)
MOST_DEFERRALS = 75


def judge(
    node: GraphNode,
    path: str,
    run_id: UUID,
    attempt: int,
    outcome: Outcome,
    *,
    now: float,
    seconds: float,
    deferred: int = 0,
) -> NodeCompleted | NodeFailed | NodeDeferred:
    """The fact that an attempt comes to.

    Args:
        path: where the node stands in the run.
        attempt: 1 is the first.
        now: Unix seconds by the database's clock; `retry_at` counts from here.
        seconds: how long the attempt took.
        deferred: how often in a row this attempt was put off before.
    """
    match outcome:
        case Completed(output, large, cache):
            return NodeCompleted(path, attempt, output, seconds, large, cache)
        case Failed(kind, message, retry_after):
            at = retry_at(node, path, run_id, attempt, kind, now, retry_after or 0.0)
            return NodeFailed(path, attempt, kind, message, at, seconds)
        case Deferred(reason, least, True):
            return NodeDeferred(path, attempt, reason, now + least, deferred)
        case Deferred(reason, least) if deferred < MOST_DEFERRALS:
            count = deferred + 1
            wait = DEFERRAL.delay(count, run_id.bytes + path.encode())
            return NodeDeferred(path, attempt, reason, now + max(wait, least), count)
        case Deferred(reason, least):
            at = retry_at(node, path, run_id, attempt, "deferred", now, least)
            message = f"put off {deferred} times in a row: {reason}"[:2000]
            return NodeFailed(path, attempt, "deferred", message, at, seconds)


def retry_at(  # noqa: PLR0917 - one row of facts
    node: GraphNode, path: str, run_id: UUID, attempt: int, kind: str, now: float, least: float = 0.0
) -> float | None:
    """When a failed attempt is followed by another (Unix seconds), or None. `least`: seconds to wait at least."""
    retry = node.retry
    if kind == "budget":  # it is spent until the next day or month: a person decides
        return None
    if retry is None or attempt >= retry.max_attempts or (retry.on and kind not in retry.on):
        return None
    return now + max(retry.backoff.delay(attempt, run_id.bytes + path.encode()), least)
