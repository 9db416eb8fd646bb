"""The workflows as this process knows them: current versions by their triggers, any version by its hash, compiled once.

The epoch tells whether anything was applied since. It comes with every claim, so that it costs no question of its own
and a delivery that came after an `apply` is never routed by what stood before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog

from events import definitions, waits, workspaces
from events.database import Database
from events.definitions import WorkflowRow
from events.effects import Arrival
from events.errors import ConfigError
from events.waits import WaitExpression
from executor.engine.registry import Registry
from executor.workflow.expressions import TRIGGER_ROOTS, Expression, ExpressionError
from executor.workflow.graph import Graph, compile_workflow, every_node, parse_workflow
from executor.workflow.matching import key_of
from executor.workflow.outcomes import NodeError
from executor.workflow.triggers import Triggers

_log = structlog.get_logger(__name__)


class Current(msgspec.Struct, frozen=True):
    """What stands at one epoch."""

    epoch: int
    triggers: Mapping[int, Triggers]
    """By workspace."""
    expressions: Mapping[str, tuple[tuple[bytes, Expression], ...]]
    """What is asked of the deliveries of a source, because runs may wait for them by it."""
    limited: frozenset[int] = frozenset()
    """The workspaces that may carry on so many runs at once only."""

    def of(self, workspace_id: int) -> Triggers:
        """The triggers of one workspace."""
        return self.triggers.get(workspace_id) or Triggers(())


def wait_expressions(graphs: Iterable[Graph]) -> Mapping[str, tuple[tuple[bytes, Expression], ...]]:
    """What the `wait.event` nodes of these workflows ask of deliveries, by source."""
    found: dict[str, dict[bytes, Expression]] = {}
    for graph in graphs:
        for node in every_node(graph.level):
            source = node.inputs.value.get("source")
            if node.match is not None and isinstance(source, str):
                found.setdefault(source, {})[node.match.expression] = node.match.event_side
    return {source: tuple(expressions.items()) for source, expressions in found.items()}


def wait_rows(graph: Graph) -> tuple[WaitExpression, ...]:
    """What the waits of a workflow find deliveries by, as it is stored."""
    return tuple(
        WaitExpression(source, hash, expression.source)
        for source, expressions in wait_expressions([graph]).items()
        for hash, expression in expressions
    )


def arrivals_of(current: Current, event: Mapping[str, Any], workspace_id: int = 1) -> tuple[Arrival, ...]:
    """What waiting runs may find a delivery by. An expression that it has no value for finds nothing."""
    found = []
    for name, expression in current.expressions.get(event["source"], ()):
        try:
            value = expression.evaluate({"event": event})
        except ExpressionError:
            continue
        found.append(Arrival(event["source"], name, key_of(value, workspace_id)))
    return tuple(found)


class Workflows:
    """A cache over `events.definitions`."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._graphs: dict[bytes, Graph] = {}
        self._current: Current | None = None

    async def current(self, epoch: int) -> Current:
        """The triggers as they stood at this epoch or later."""
        if self._current is None or self._current.epoch < epoch:
            epoch = await definitions.epoch(self._database)  # what is read next is as new as this, or newer
            graphs: dict[int, list[Graph]] = {}
            for row in await definitions.workflows(self._database):
                try:
                    graphs.setdefault(row.workspace_id, []).append(self._compile(row))
                except ConfigError as error:
                    # Applied by a process with other node modules, say. Its deliveries say that nobody wanted them
                    # and can be replayed; the others' must not wait for it.
                    _log.error("workflow.unusable", workflow=row.name, error=str(error))
            triggers = {id: Triggers(own) for id, own in graphs.items()}
            limited = await workspaces.limited(self._database)
            self._current = Current(epoch, triggers, await self._expressions(), limited)
        return self._current

    async def _expressions(self) -> Mapping[str, tuple[tuple[bytes, Expression], ...]]:
        found: dict[str, list[tuple[bytes, Expression]]] = {}
        for row in await waits.expressions(self._database):
            found.setdefault(row.source, []).append((row.expression, Expression(row.text, TRIGGER_ROOTS)))
        return {source: tuple(expressions) for source, expressions in found.items()}

    async def named(self, name: str, workspace_id: int) -> Graph:
        """The current version of a workflow of a workspace.

        Raises:
            NodeError: kind `input`; none of that name was applied, or this process cannot use it.
        """
        row = await definitions.workflow(self._database, name, workspace_id)
        if row is None:
            raise NodeError("input", f"workflow {name!r}: expected one that was applied, got none; `headrace apply` it")
        try:
            return self._compile(row)
        except ConfigError as error:
            raise NodeError("input", f"workflow {name!r}: {error}") from error

    async def graph(self, hash: bytes) -> Graph:
        """A version by its hash.

        Raises:
            ConfigError: it is not in the database, or names node types that this process does not have.
        """
        found = self._graphs.get(hash)
        if found is not None:
            return found
        row = await definitions.workflow_version(self._database, hash)
        if row is None:
            raise ConfigError("workflow", [f"hash {hash.hex()}: expected a version that was applied, got none"])
        return self._compile(row)

    def _compile(self, row: WorkflowRow) -> Graph:
        graph = self._graphs.get(row.hash)
        if graph is None:
            graph = compile_workflow(parse_workflow(row.document, self._registry.specs()), row.hash)
            self._graphs[row.hash] = graph
        return graph
