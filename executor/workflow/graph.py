"""A workflow as the engine uses it: compiled, in order, with the hash of its document.

    documents = load_yaml(text)
    workflow = parse_workflow(documents[0], node_types)
    graph = compile_workflow(workflow, content_hash(documents[0]))

The names around the document are here too, so that this is the one module to import.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from executor.workflow.definition import (
    Body,
    Caching,
    CostClass,
    Node,
    NodeSpec,
    Queue,
    Retry,
    Trigger,
    When,
    Workflow,
    canonical,
    content_hash,
)
from executor.workflow.expressions import ENDING_ROOTS, ITEM_ROOTS, SCOPE, TRIGGER_ROOTS, Expression
from executor.workflow.lanes import Lane
from executor.workflow.matching import Match, compile_match
from executor.workflow.order import ancestors, dependents, topological
from executor.workflow.parsing import parse_workflow
from executor.workflow.paths import ON_ERROR, UNDO, static
from executor.workflow.templates import Template
from executor.workflow.yaml_text import load_yaml

__all__ = [
    "Body",
    "CompiledTrigger",
    "Graph",
    "GraphBody",
    "GraphNode",
    "Level",
    "Node",
    "NodeSpec",
    "Queue",
    "Retry",
    "Trigger",
    "When",
    "Workflow",
    "canonical",
    "compile_workflow",
    "content_hash",
    "load_yaml",
    "parse_workflow",
]


class CompiledTrigger(msgspec.Struct, frozen=True):
    """A trigger: the source's slug, the glob over the type as a pattern (None: any), the condition, and the glob (or
    the schedule) as it was written.
    """

    source: str
    type: re.Pattern[str] | None
    condition: Expression | None
    glob: str = "*"


class GraphNode(msgspec.Struct, frozen=True):
    """A node, compiled. `timeout`: seconds per attempt. `dependents`: the nodes that need it.

    `needs` holds all that it needs; `required` of these have to come, of the others (`any`) `at_least` many. `match`:
    of a `wait.event`. `cache_key`: of `cache`, compiled. `mentions`: the nodes whose outputs its expressions name.
    """

    name: str
    uses: str
    condition: Expression | None
    inputs: Template
    needs: tuple[str, ...]
    dependents: tuple[str, ...]
    timeout: float
    retry: Retry | None
    pure: bool
    required: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    at_least: int = 1
    when: When = "succeeded"
    body: GraphBody | None = None
    undo: GraphNode | None = None
    match: Match | None = None
    mentions: frozenset[str] = frozenset()
    cache: Caching | None = None
    cache_key: Expression | None = None
    limit: CostClass | None = None


class Level(msgspec.Struct, frozen=True):
    """Nodes that need each other: a workflow's, or those inside a `map`.

    `order`: every node after those it needs. `last`: the nodes that no other needs. `handles`: for each node that runs
    when something failed, the nodes whose failures it handles.
    """

    nodes: dict[str, GraphNode]
    order: tuple[str, ...]
    last: tuple[str, ...]
    handles: dict[str, frozenset[str]]


class GraphBody(msgspec.Struct, frozen=True):
    """The inside of a `map`, compiled; see `definition.Body`."""

    level: Level
    collect: Template | None
    concurrency: int
    failures: int | None


class Graph(msgspec.Struct, frozen=True):
    """A workflow version.

    `hash`: 32 bytes, of the document. `timeout`: seconds for a whole run, None for no limit. `undoes`: whether there is
    anything to do once a run has failed. `lane`: how its runs wait for each other, None for not at all; `key`: what
    tells its lanes apart. `batched`: whether its expressions may name `events`.
    """

    name: str
    hash: bytes
    queue: Queue
    timeout: float | None
    triggers: tuple[CompiledTrigger, ...]
    level: Level
    input: dict[str, Any] | None = None
    output: Template | None = None
    on_error: GraphNode | None = None
    undoes: bool = False
    key: Expression | None = None
    lane: Lane | None = None
    batched: bool = False

    @property
    def nodes(self) -> dict[str, GraphNode]:
        """The nodes of the workflow itself."""
        return self.level.nodes

    def at(self, path: str) -> GraphNode:
        """The node that a path leads to. All items of a `map` share its nodes."""
        if path == ON_ERROR and self.on_error is not None:
            return self.on_error
        if path.endswith(UNDO):
            undo = self.level.nodes[path.removesuffix(UNDO)].undo
            assert undo is not None
            return undo
        if "[" not in path:
            return self.level.nodes[path]
        *outer, name = static(path)
        level = self.level
        for map_name in outer:
            body = level.nodes[map_name].body
            assert body is not None
            level = body.level
        return level.nodes[name]


def compile_workflow(workflow: Workflow, hash: bytes) -> Graph:
    """The graph of a workflow that `parse_workflow` found right.

    Args:
        hash: the document's `content_hash`; a run pins it.
    """
    level = _level(workflow.nodes, SCOPE)
    spec = workflow.lane
    undoes = workflow.on_error is not None or any(node.undo is not None for node in level.nodes.values())
    return Graph(
        name=workflow.name,
        hash=hash,
        queue=workflow.queue,
        timeout=workflow.timeout,
        triggers=tuple(map(_trigger, workflow.on)),
        level=level,
        input=workflow.input,
        output=None if workflow.output is msgspec.UNSET else Template(workflow.output, SCOPE),
        on_error=None if workflow.on_error is None else _node(workflow.on_error, (), ENDING_ROOTS),
        undoes=undoes,
        key=None if spec is None or spec.key is None else Expression(spec.key, TRIGGER_ROOTS),
        lane=None if spec is None else spec.lane,
        batched=spec is not None and spec.lane.batch is not None,
    )


def _level(nodes: Mapping[str, Node], roots: tuple[str, ...]) -> Level:
    needs = {name: (*node.needs, *node.any) for name, node in nodes.items()}
    after = dependents(needs)
    order = topological(needs)
    before = ancestors(needs)
    return Level(
        nodes={name: _node(nodes[name], after[name], roots) for name in order},
        order=order,
        last=tuple(name for name in order if not after[name]),
        handles={name: before[name] for name in order if nodes[name].when == "failed"},
    )


def _trigger(trigger: Trigger) -> CompiledTrigger:
    pattern = None if trigger.type == "*" else re.compile(fnmatch.translate(trigger.type))
    condition = None if trigger.condition is None else Expression(trigger.condition, TRIGGER_ROOTS)
    written = trigger.type if trigger.schedule is None else f"{trigger.schedule.expression} {trigger.schedule.tz}"
    return CompiledTrigger(trigger.source, pattern, condition, written)


def _node(node: Node, after: tuple[str, ...], roots: tuple[str, ...]) -> GraphNode:
    condition = None if node.condition is None else Expression(node.condition, roots)
    inputs = Template(node.inputs, roots)
    match = compile_match(node.inputs["match"]) if node.uses == "wait.event" else None
    expressions = [*inputs.expressions]
    expressions += [] if condition is None else [condition]
    expressions += [] if match is None else [match.whole]
    caching = node.cache
    cache_key = None if caching is None or caching.key is None else Expression(caching.key, roots)
    expressions += [] if cache_key is None else [cache_key]
    return GraphNode(
        name=node.name,
        uses=node.uses,
        condition=condition,
        inputs=inputs,
        needs=(*node.needs, *node.any),
        dependents=after,
        timeout=node.timeout,
        retry=node.retry,
        pure=node.pure,
        required=node.needs,
        any=node.any,
        at_least=node.at_least,
        when=node.when,
        body=None if node.body is None else _body(node.body),
        undo=None if node.undo is None else _node(node.undo, (), ENDING_ROOTS),
        match=match,
        mentions=mentions(expressions),
        cache=caching,
        cache_key=cache_key,
        limit=node.limit,
    )


def every_node(level: Level) -> Iterator[GraphNode]:
    """The nodes of a level and of the maps in it."""
    for node in level.nodes.values():
        yield node
        if node.body is not None:
            yield from every_node(node.body.level)


def mentions(expressions: Iterable[Expression]) -> frozenset[str]:
    """The nodes whose outputs these expressions name."""
    paths = (path for expression in expressions for path in expression.paths)
    return frozenset(path[1] for path in paths if path[0] == "nodes" and len(path) > 1 and isinstance(path[1], str))


def _body(body: Body) -> GraphBody:
    return GraphBody(
        level=_level(body.nodes, ITEM_ROOTS),
        collect=None if body.collect is msgspec.UNSET else Template(body.collect, ITEM_ROOTS),
        concurrency=body.concurrency,
        failures=body.failures,
    )
