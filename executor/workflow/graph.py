"""A workflow as the engine uses it: compiled, in order, with the hash of its document.

    documents = load_yaml(text)
    workflow = parse_workflow(documents[0], node_types)
    graph = compile_workflow(workflow, content_hash(documents[0]))

The names around the document are here too, so that this is the one module to import.
"""

from __future__ import annotations

import fnmatch
import re

import msgspec

from executor.workflow.definition import (
    Node,
    NodeSpec,
    Queue,
    Retry,
    Trigger,
    Workflow,
    canonical,
    content_hash,
)
from executor.workflow.expressions import Expression
from executor.workflow.order import dependents, topological
from executor.workflow.parsing import TRIGGER_ROOTS, parse_workflow
from executor.workflow.templates import Template
from executor.workflow.yaml_text import load_yaml

__all__ = [
    "CompiledTrigger",
    "Graph",
    "GraphNode",
    "Node",
    "NodeSpec",
    "Queue",
    "Retry",
    "Trigger",
    "Workflow",
    "canonical",
    "compile_workflow",
    "content_hash",
    "load_yaml",
    "parse_workflow",
]


class CompiledTrigger(msgspec.Struct, frozen=True):
    """A trigger: the source's slug, the glob over the type as a pattern (None: any), and the condition."""

    source: str
    type: re.Pattern[str] | None
    condition: Expression | None


class GraphNode(msgspec.Struct, frozen=True):
    """A node, compiled. `timeout`: seconds per attempt. `dependents`: the nodes that need it."""

    name: str
    uses: str
    condition: Expression | None
    inputs: Template
    needs: tuple[str, ...]
    dependents: tuple[str, ...]
    timeout: float
    retry: Retry | None
    pure: bool


class Graph(msgspec.Struct, frozen=True):
    """A workflow version. `order`: every node after those it needs; `roots`: the nodes that need none.

    `hash`: 32 bytes, of the document. `timeout`: seconds for a whole run, None for no limit.
    """

    name: str
    hash: bytes
    queue: Queue
    timeout: float | None
    triggers: tuple[CompiledTrigger, ...]
    nodes: dict[str, GraphNode]
    order: tuple[str, ...]
    roots: tuple[str, ...]


def compile_workflow(workflow: Workflow, hash: bytes) -> Graph:
    """The graph of a workflow that `parse_workflow` found right.

    Args:
        hash: the document's `content_hash`; a run pins it.
    """
    needs = {name: node.needs for name, node in workflow.nodes.items()}
    after = dependents(needs)
    order = topological(needs)
    return Graph(
        name=workflow.name,
        hash=hash,
        queue=workflow.queue,
        timeout=workflow.timeout,
        triggers=tuple(map(_trigger, workflow.on)),
        nodes={name: _node(workflow.nodes[name], after[name]) for name in order},
        order=order,
        roots=tuple(name for name in order if not needs[name]),
    )


def _trigger(trigger: Trigger) -> CompiledTrigger:
    pattern = None if trigger.type == "*" else re.compile(fnmatch.translate(trigger.type))
    condition = None if trigger.condition is None else Expression(trigger.condition, TRIGGER_ROOTS)
    return CompiledTrigger(trigger.source, pattern, condition)


def _node(node: Node, after: tuple[str, ...]) -> GraphNode:
    return GraphNode(
        name=node.name,
        uses=node.uses,
        condition=None if node.condition is None else Expression(node.condition),
        inputs=Template(node.inputs),
        needs=node.needs,
        dependents=after,
        timeout=node.timeout,
        retry=node.retry,
        pure=node.pure,
    )
