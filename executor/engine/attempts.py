"""One attempt at one node of a run: is it wanted (`if`), with what inputs, how did it go, what does that come to."""

from __future__ import annotations

import time
from typing import Any

from events import faults
from events.ids import Clock
from events.telemetry import Telemetry
from executor.engine.context import EndpointResolver, NodeContext
from executor.engine.held import Held
from executor.engine.node import execute
from executor.engine.outbound import OutboundClient
from executor.engine.processes import KillablePool
from executor.engine.registry import Registry
from executor.workflow.expressions import ExpressionError
from executor.workflow.facts import NodeCompleted, NodeFailed, NodeSkipped
from executor.workflow.graph import GraphNode
from executor.workflow.outcomes import Failed, Outcome
from executor.workflow.state import Retrying
from executor.workflow.verdict import judge


class Attempts:
    """Makes attempts, with what all of them share."""

    def __init__(
        self,
        *,
        clock: Clock,
        registry: Registry,
        pool: KillablePool,
        client: OutboundClient,
        endpoints: EndpointResolver,
        telemetry: Telemetry,
    ) -> None:
        self._clock = clock
        self._registry = registry
        self._pool = pool
        self._client = client
        self._endpoints = endpoints
        self._telemetry = telemetry

    async def attempt(self, run: Held, node: GraphNode) -> NodeCompleted | NodeFailed | NodeSkipped:
        """The fact that this attempt comes to."""
        earlier = run.state.nodes.get(node.name)
        attempt = earlier.attempt + 1 if isinstance(earlier, Retrying) else 1
        began = time.monotonic()
        try:
            if attempt == 1 and not _wanted(node, run.scope):
                return NodeSkipped(node.name, "its `if` was false")
            inputs = node.inputs.render(run.scope)
        except ExpressionError as error:
            outcome: Outcome = Failed("expression", str(error))
        else:
            outcome = await self._execute(run, node, attempt, inputs)
        seconds = round(time.monotonic() - began, 6)
        return judge(node, run.id, attempt, outcome, now=self._clock.now(), seconds=seconds)

    async def _execute(self, run: Held, node: GraphNode, attempt: int, inputs: Any) -> Outcome:
        attributes: dict[str, Any] = {}
        if self._telemetry.enabled:
            attributes = {"headrace.run.id": str(run.id), "headrace.node": node.name, "headrace.attempt": attempt}
        with self._telemetry.span(f"node {node.uses}", parent=run.traceparent, attributes=attributes) as span:
            context = NodeContext(
                run.id,
                run.graph.name,
                node.name,
                attempt,
                self._clock.now() + node.timeout,
                span.traceparent,
                self._client,
                self._endpoints,
            )
            faults.point("node.before", node.name)
            outcome = await execute(self._registry[node.uses], context, inputs, node.timeout, self._pool)
            faults.point("node.after", node.name)
            if isinstance(outcome, Failed):
                span.fail(outcome.kind)
            return outcome


def _wanted(node: GraphNode, scope: dict[str, Any]) -> bool:
    if node.condition is None:
        return True
    wanted = node.condition.evaluate(scope)
    if not isinstance(wanted, bool):
        raise ExpressionError(f"if: expected true or false, got {wanted!r}"[:500])
    return wanted
