"""From a document to a `Workflow`: validated whole, all faults at once.

Expressions are compiled here for what they tell (syntax, names, the nodes they mention) and once more when
the engine compiles the graph: reading is rare, and a `Workflow` stays plain data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec

from events.errors import ConfigError
from executor.workflow.backoff import Backoff
from executor.workflow.definition import (
    MAX_DEPTH,
    MAX_DOCUMENT,
    MAX_NODES,
    NODE_TIMEOUT,
    QUEUES,
    Node,
    NodeSpec,
    Queue,
    Retry,
    Trigger,
    Workflow,
    canonical,
)
from executor.workflow.expressions import TRIGGER_ROOTS, Expression, ExpressionError
from executor.workflow.order import ancestors, cycle
from executor.workflow.reading import NODE_NAME, Reader
from executor.workflow.templates import Template, TemplateError, has_expressions
from executor.workflow.wording import did_you_mean, shown

FIELDS = {
    "event": ("id", "source", "type", "method", "query", "headers", "body", "form", "files", "received_at"),
    "run": ("id", "workflow", "started_at"),
}
"""What `event` and `run` hold in expressions."""

_WORKFLOW = ("workflow", "on", "queue", "timeout", "nodes")
_TRIGGER = ("source", "type", "if")
_NODE = ("uses", "with", "needs", "if", "timeout", "retry")
_RETRY = ("max_attempts", "first", "factor", "max", "on")
_MAX_GLOB = 200
_MAX_STARS = 10
_DAY = 86_400.0


def parse_workflow(document: Mapping[str, Any], node_types: Mapping[str, NodeSpec] | None = None) -> Workflow:
    """The workflow that a document describes.

    Args:
        node_types: the node types by `uses`; None leaves `uses` and `with` unchecked.

    Raises:
        ConfigError: with every fault, each as "path: expected …, got …".
    """
    _check_size(document)
    faults: list[str] = []
    reader = Reader("", document, _WORKFLOW, faults)
    name = reader.name("workflow")
    triggers = tuple(_trigger(reader, index, value) for index, value in enumerate(reader.items("on")))
    queue = cast(Queue, reader.choice("queue", QUEUES, "webhook"))
    timeout = reader.duration("timeout")
    nodes = _nodes(reader, node_types)
    _check_graph(nodes, faults)
    if faults:
        raise ConfigError(f"workflow {name}" if name else "workflow", faults)
    return Workflow(name=name, nodes=nodes, on=triggers, queue=queue, timeout=timeout)


def _check_size(document: Mapping[str, Any]) -> None:
    """What is walked below, by recursion, is JSON of bounded size and depth."""
    try:
        size = len(canonical(document))
    except (TypeError, ValueError) as error:
        raise ConfigError("workflow", [f"document: expected what JSON can hold, got: {error}"]) from None
    except RecursionError:
        size = MAX_DOCUMENT + 1
    if size > MAX_DOCUMENT or _depth(document) > MAX_DEPTH:
        limits = f"{MAX_DOCUMENT:,} bytes and {MAX_DEPTH} levels"
        raise ConfigError("workflow", [f"document: expected at most {limits}, got more"])


def _depth(document: Any) -> int:
    depth = 0
    level = [document]
    while level:
        depth += 1
        level = [part for value in level for part in _parts(value) if isinstance(part, dict | list)]
    return depth


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _trigger(parent: Reader, index: int, value: Any) -> Trigger:
    reader = Reader(f"on[{index}]", value, _TRIGGER, parent.faults)
    if not isinstance(value, Mapping):
        return Trigger("")
    glob = reader.text("type", "*") or "*"
    if len(glob) > _MAX_GLOB or glob.count("*") > _MAX_STARS:
        reader.fault("type", f"expected a glob of at most {_MAX_GLOB} characters and {_MAX_STARS} *, got more")
    elif glob.count("[") != len(re.findall(r"\[!?[^\[]+?\]", glob)):
        reader.fault("type", f"expected a ] for every [, got {glob!r}")
    condition = reader.text("if")
    if condition is not None:
        _expression(reader, condition, TRIGGER_ROOTS)
    return Trigger(reader.name("source"), glob, condition)


def _nodes(parent: Reader, node_types: Mapping[str, NodeSpec] | None) -> dict[str, Node]:
    values = parent.values.get("nodes")
    if not isinstance(values, Mapping) or not values:
        parent.fault("nodes", f"expected at least one node, got {shown(values) if values else 'none'}")
        return {}
    if len(values) > MAX_NODES:
        parent.fault("nodes", f"expected at most {MAX_NODES:,} nodes, got {len(values):,}")
        return {}
    return {str(name): _node(parent, str(name), value, node_types) for name, value in values.items()}


def _node(parent: Reader, name: str, value: Any, node_types: Mapping[str, NodeSpec] | None) -> Node:
    reader = Reader(f"nodes.{name}", value, _NODE, parent.faults)
    if not NODE_NAME.fullmatch(name):
        text = "expected a name of at most 64 letters, digits, - and _ that starts with no digit"
        parent.fault(f"nodes.{name[:80]}", f"{text}, got {shown(name)}")
    if not isinstance(value, Mapping):
        return Node(name=name, uses="")
    uses = reader.name("uses")
    spec = node_types.get(uses) if node_types is not None else None
    if node_types is not None and uses and spec is None:
        hint = did_you_mean(uses, node_types) or f"; there are {', '.join(sorted(node_types))}"
        reader.fault("uses", f"expected a node type, got {uses!r}{hint}")
    inputs = reader.values.get("with", {})
    if not isinstance(inputs, Mapping):
        reader.fault("with", f"expected keys and values, got {shown(inputs)}")
        inputs = {}
    inputs = dict(inputs)
    if spec is not None and spec.inputs is not None:
        _check_inputs(reader, inputs, spec.inputs)
    timeout = reader.duration("timeout", most=_DAY) or (spec.timeout if spec is not None else None)
    return Node(
        name=name,
        uses=uses,
        inputs=inputs,
        needs=reader.words("needs"),
        condition=reader.text("if"),
        timeout=timeout or NODE_TIMEOUT,
        retry=_retry(reader, spec.retry if spec is not None else None),
        pure=spec.pure if spec is not None else False,
    )


def _retry(parent: Reader, default: Retry | None) -> Retry | None:
    """The policy; what the document leaves out, the node type's says."""
    if "retry" not in parent.values:
        return default
    reader = Reader(parent.at("retry"), parent.values["retry"], _RETRY, parent.faults)
    base = default or Retry()
    first = reader.duration("first", most=_DAY) or base.backoff.first
    longest = reader.duration("max", most=30 * _DAY) or max(base.backoff.max, first)
    if longest < first:
        reader.fault("max", f"expected at least first ({first:g} s), got {longest:g} s")
    return Retry(
        reader.whole("max_attempts", base.max_attempts, least=1, most=1_000),
        Backoff(
            first=first,
            factor=reader.number("factor", base.backoff.factor, least=1, most=100),
            max=longest,
            jitter=base.backoff.jitter,
        ),
        reader.words("on") if "on" in reader.values else base.on,
    )


def _check_inputs(reader: Reader, inputs: Mapping[str, Any], struct: type[msgspec.Struct]) -> None:
    """Against the node type's Struct: names all, and values that hold no expression."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name in inputs:
        if name not in fields:
            hint = did_you_mean(str(name), fields) or f"; there are {', '.join(fields) or 'none'}"
            reader.fault(f"with.{name}", f"expected an input that the node takes, got {name!r}{hint}")
    for name, field in fields.items():
        if name not in inputs:
            if field.required:
                reader.fault(f"with.{name}", "expected a value, got nothing")
        elif not has_expressions(inputs[name]):
            try:
                msgspec.convert(inputs[name], field.type)
            except msgspec.ValidationError as error:
                text = str(error)
                text = text[:1].lower() + text[1:] if ", got" in text else f"expected another value, got: {text}"
                reader.fault(f"with.{name}", text.replace("`", ""))


def _check_graph(nodes: Mapping[str, Node], faults: list[str]) -> None:
    """Needs that lead somewhere, no cycle, and expressions that name only what is done before."""
    sound = True
    for node in nodes.values():
        for index, need in enumerate(node.needs):
            if need not in nodes:
                sound = False
                hint = did_you_mean(need, nodes)
                faults.append(f"nodes.{node.name}.needs[{index}]: expected a node, got {need!r}{hint}")
    needs = {name: tuple(need for need in node.needs if need in nodes) for name, node in nodes.items()}
    around = cycle(needs)
    if around:
        sound = False
        faults.append(f"nodes: expected no cycle, got {' needs '.join(around)}")
    before = ancestors(needs) if sound else None
    for node in nodes.values():
        for path, expression in _expressions(node, faults):
            for fault in _misnamed(expression, node.name, nodes, before):
                faults.append(f"nodes.{node.name}.{path}: {fault}")


def _expressions(node: Node, faults: list[str]) -> Iterator[tuple[str, Expression]]:
    if node.condition is not None:
        try:
            yield "if", Expression(node.condition)
        except ExpressionError as error:
            faults.append(f"nodes.{node.name}.if: {error}")
    try:
        for expression in Template(node.inputs).expressions:
            yield "with", expression
    except TemplateError as error:
        faults.extend(f"nodes.{node.name}.with.{path}: {text}" for path, text in error.faults)


def _expression(reader: Reader, source: str, roots: tuple[str, ...]) -> None:
    try:
        expression = Expression(source, roots)
    except ExpressionError as error:
        reader.fault("if", str(error))
        return
    for fault in _misnamed(expression, "", {}, None):
        reader.fault("if", fault)


def _misnamed(
    expression: Expression, name: str, nodes: Mapping[str, Node], before: Mapping[str, frozenset[str]] | None
) -> Iterator[str]:
    """What its paths name that is not there. `before`: each node's ancestors, None if unknown."""
    for root, *rest in expression.paths:
        first = rest[0] if rest else None
        fields = FIELDS.get(str(root))
        if fields is not None:
            if isinstance(first, str) and first not in fields:
                hint = did_you_mean(first, fields) or f"; there are {', '.join(fields)}"
                yield f"{expression.source}: expected a field of {root}, got {first!r}{hint}"
        elif not isinstance(first, str):
            yield f"{expression.source}: expected nodes.<name>.output, got nodes without a name"
        elif first not in nodes:
            yield f"{expression.source}: expected a node, got {first!r}{did_you_mean(first, nodes)}"
        elif before is not None and first not in before[name]:
            text = f"expected nodes that {name} needs, itself or through others"
            yield f"{expression.source}: {text}, got {first!r}; add it to needs"
        elif rest[1:] and rest[1] != "output":
            yield f"{expression.source}: expected nodes.{first}.output, got {rest[1]!r}"
