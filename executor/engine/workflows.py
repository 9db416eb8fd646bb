"""The workflows as this process knows them: current versions by their triggers, any version by its hash, compiled once.

The epoch tells whether anything was applied since. It comes with every claim, so that it costs no question of its own
and a delivery that came after an `apply` is never routed by what stood before it.
"""

from __future__ import annotations

import msgspec
import structlog

from events import definitions
from events.database import Database
from events.definitions import WorkflowRow
from events.errors import ConfigError
from executor.engine.registry import Registry
from executor.workflow.graph import Graph, compile_workflow, parse_workflow
from executor.workflow.outcomes import NodeError
from executor.workflow.triggers import Triggers

_log = structlog.get_logger(__name__)


class Current(msgspec.Struct, frozen=True):
    """What stands at one epoch."""

    epoch: int
    triggers: Triggers


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
            graphs = []
            for row in await definitions.workflows(self._database):
                try:
                    graphs.append(self._compile(row))
                except ConfigError as error:
                    # Applied by a process with other node modules, say. Its deliveries say that nobody wanted them
                    # and can be replayed; the others' must not wait for it.
                    _log.error("workflow.unusable", workflow=row.name, error=str(error))
            self._current = Current(epoch, Triggers(graphs))
        return self._current

    async def named(self, name: str) -> Graph:
        """The current version of a workflow.

        Raises:
            NodeError: kind `input`; none of that name was applied, or this process cannot use it.
        """
        row = await definitions.workflow(self._database, name)
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
