"""One attempt at one node of a run: is it wanted (`if`), with what inputs, how did it go, what does that come to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from events import faults
from events.costs import Call
from events.errors import LeaseLost
from events.ids import Clock, derived_id
from events.runs import Effect
from events.telemetry import Telemetry
from executor.engine.cache import NodeCache, cache_key
from executor.engine.context import EndpointResolver, NodeContext
from executor.engine.control import Begun, Control, FindWorkflow
from executor.engine.held import Held
from executor.engine.limits import Limits, class_of
from executor.engine.node import execute
from executor.engine.outbound import OutboundClient
from executor.engine.processes import KillablePool
from executor.engine.registry import Registry
from executor.engine.store import RunStore
from executor.workflow.controls import CONTROLS
from executor.workflow.definition import Caching
from executor.workflow.expressions import ExpressionError
from executor.workflow.facts import NodeCompleted, NodeDeferred, NodeFailed, NodeMapped, NodeSkipped, NodeWaiting
from executor.workflow.graph import GraphNode
from executor.workflow.outcomes import Completed, Failed, NodeError, Outcome
from executor.workflow.paths import static
from executor.workflow.state import Retrying, RunState, place
from executor.workflow.verdict import judge


class Attempted(msgspec.Struct, frozen=True):
    """What an attempt came to, and what belongs into the same commit."""

    fact: NodeCompleted | NodeDeferred | NodeFailed | NodeSkipped | NodeWaiting | NodeMapped
    effects: tuple[Effect, ...] = ()


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
        store: RunStore,
        find: FindWorkflow,
        cache: NodeCache | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._clock = clock
        self._registry = registry
        self._pool = pool
        self._client = client
        self._endpoints = endpoints
        self._telemetry = telemetry
        self._store = store
        self._control = Control(find)
        self._cache = cache
        self._limits = limits

    async def attempt(self, run: Held, path: str) -> Attempted:
        """The fact that one attempt at the node at `path` comes to.

        Raises:
            LeaseLost: somebody else may be at it by now, so that nothing was begun.
        """
        node = run.graph.at(path)
        earlier = _earlier(run.state, path)
        attempt = 1 if earlier is None else earlier.attempt + 1
        began = time.monotonic()
        effects: tuple[Effect, ...] = ()
        try:
            scope = await run.scopes.of(path, node.mentions, self._store)
            if earlier is None and not _wanted(node, scope):
                return Attempted(NodeSkipped(path, "its `if` was false"))
            if node.uses in CONTROLS:
                begun = await self._control.begin(run, node, path, attempt, scope, self._clock.now())
                if isinstance(begun, Begun):
                    if not isinstance(begun.fact, Completed):
                        return Attempted(begun.fact, begun.effects)
                    outcome: Outcome = begun.fact
                    effects = begun.effects
                else:
                    outcome = begun
            elif node.cache is None or self._cache is None:
                outcome = await self._call(run, node, path, attempt, node.inputs.render(scope))
            else:
                outcome = await self._cached(self._cache, node.cache, run, node, path, attempt, scope)
        except NodeError as error:
            outcome = Failed(error.kind, str(error)[:2000])
        seconds = round(time.monotonic() - began, 6)
        deferred = 0 if earlier is None else earlier.deferred
        fact = judge(node, path, run.id, attempt, outcome, now=self._clock.now(), seconds=seconds, deferred=deferred)
        return Attempted(fact, effects)

    async def _cached(  # noqa: PLR0917 - as `_execute` has them
        self,
        cache: NodeCache,
        caching: Caching,
        run: Held,
        node: GraphNode,
        path: str,
        attempt: int,
        scope: Mapping[str, Any],
    ) -> Outcome:
        inputs = node.inputs.render(scope)
        told = inputs
        if node.cache_key is not None:
            told = [run.graph.name, static(path), node.cache_key.evaluate(scope)]
        key = cache_key(run.workspace_id, node.uses, self._registry[node.uses].version, told)
        if key is None:
            return await self._call(run, node, path, attempt, inputs)
        call = partial(self._call, run, node, path, attempt, inputs)
        return await cache.through(key, caching, call, timeout=node.timeout, flying=run.flying)

    async def _call(self, run: Held, node: GraphNode, path: str, attempt: int, inputs: Any) -> Outcome:
        """The call, within the limits of its cost class."""
        cls = class_of(node.limit, node.uses)
        if cls is None or self._limits is None:
            return await self._execute(run, node, path, attempt, inputs)
        id = derived_id(run.id, path, str(attempt), "cost")
        call = Call(id, run.workspace_id, cls.name, run.graph.name, run.id, path, cls.reserve)
        make = partial(self._execute, run, node, path, attempt, inputs)
        return await self._limits.through(call, node.timeout, make)

    async def _execute(self, run: Held, node: GraphNode, path: str, attempt: int, inputs: Any) -> Outcome:
        if not run.sure():
            raise LeaseLost(f"run {run.id}: the lease of token {run.token} ran out before {path} could begin")
        attributes: dict[str, Any] = {}
        if self._telemetry.enabled:
            attributes = {"headrace.run.id": str(run.id), "headrace.node": path, "headrace.attempt": attempt}
        with self._telemetry.span(f"node {node.uses}", parent=run.traceparent, attributes=attributes) as span:
            context = NodeContext(
                run.id,
                run.graph.name,
                path,
                attempt,
                self._clock.now() + node.timeout,
                span.traceparent,
                self._client,
                self._endpoints,
                run.workspace_id,
            )
            faults.point("node.before", path)
            outcome = await execute(self._registry[node.uses], context, inputs, node.timeout, self._pool, run.flying)
            faults.point("node.after", path)
            if isinstance(outcome, Failed):
                span.fail(outcome.kind)
            return outcome


def _earlier(state: RunState, path: str) -> Retrying | None:
    """What became of the attempts at a node so far; None before the first."""
    nodes, name = place(state.nodes, path) if "[" in path else (state.nodes, path)
    earlier = nodes.get(name)
    return earlier if isinstance(earlier, Retrying) else None


def _wanted(node: GraphNode, scope: Mapping[str, Any]) -> bool:
    if node.condition is None:
        return True
    wanted = node.condition.evaluate(scope)
    if not isinstance(wanted, bool):
        raise ExpressionError(f"if: expected true or false, got {wanted!r}"[:500])
    return wanted
