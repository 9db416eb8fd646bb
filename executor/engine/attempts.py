"""One attempt at one node of a run: is it wanted (`if`), with what inputs, how did it go, what does that come to."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from events import faults
from events.ids import Clock
from events.telemetry import Telemetry
from executor.engine.context import EndpointResolver, NodeContext
from executor.engine.node import execute
from executor.engine.outbound import OutboundClient
from executor.engine.processes import KillablePool
from executor.engine.registry import NodeType, Registry
from executor.workflow.expressions import ExpressionError
from executor.workflow.facts import NodeCompleted, NodeFailed, NodeSkipped
from executor.workflow.graph import Graph, GraphNode
from executor.workflow.outcomes import Failed, Outcome
from executor.workflow.state import Retrying, RunState
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

    async def attempt(
        self, run_id: UUID, graph: Graph, name: str, state: RunState, scope: dict[str, Any], traceparent: str | None
    ) -> NodeCompleted | NodeFailed | NodeSkipped:
        """The fact that this attempt comes to."""
        node = graph.nodes[name]
        earlier = state.nodes.get(name)
        attempt = earlier.attempt + 1 if isinstance(earlier, Retrying) else 1
        began = time.monotonic()
        try:
            if node.condition is not None and attempt == 1:
                wanted = node.condition.evaluate(scope)
                if wanted is not True:
                    if wanted is not False:
                        raise ExpressionError(f"if: expected true or false, got {wanted!r}"[:500])
                    return NodeSkipped(name, "its `if` was false")
            inputs = node.inputs.render(scope)
        except ExpressionError as error:
            return judge(node, run_id, attempt, Failed("expression", str(error)), self._clock.now(), 0.0)
        outcome = await self._execute(run_id, graph, node, attempt, inputs, traceparent)
        return judge(node, run_id, attempt, outcome, self._clock.now(), round(time.monotonic() - began, 6))

    async def _execute(
        self, run_id: UUID, graph: Graph, node: GraphNode, attempt: int, inputs: Any, traceparent: str | None
    ) -> Outcome:
        kind: NodeType = self._registry[node.uses]
        attributes = {"headrace.run.id": str(run_id), "headrace.node": node.name, "headrace.attempt": attempt} if self._telemetry.enabled else {}
        with self._telemetry.span(f"node {node.uses}", parent=traceparent, attributes=attributes) as span:
            context = NodeContext(
                run_id,
                graph.name,
                node.name,
                attempt,
                self._clock.now() + node.timeout,
                span.traceparent,
                self._client,
                self._endpoints,
            )
            faults.point("node.before", node.name)
            outcome = await execute(kind, context, inputs, node.timeout, self._pool)
            faults.point("node.after", node.name)
            if isinstance(outcome, Failed):
                span.fail(outcome.kind)
            return outcome
