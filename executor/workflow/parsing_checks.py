"""What can only be said of a whole graph: needs that lead somewhere, no cycle, every node can run, and expressions that
name only what is done before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from executor.workflow.definition import MAX_NODES, Body, Node, Workflow
from executor.workflow.expressions import ENDING_ROOTS, ITEM_ROOTS, MATCH_ROOTS, SCOPE, Expression, ExpressionError
from executor.workflow.order import ancestors, cycle
from executor.workflow.parsing_names import Names
from executor.workflow.reachable import unreachable
from executor.workflow.templates import Template, TemplateError, has_expressions
from executor.workflow.wording import did_you_mean


def check_graph(workflow: Workflow, faults: list[str]) -> None:
    """Notes all that is wrong between the nodes."""
    total = _count(workflow.nodes)
    if total > MAX_NODES:
        faults.append(f"nodes: expected at most {MAX_NODES:,} nodes with those inside of maps, got {total:,}")
        return
    check = _Check(faults)
    batch = workflow.lane is not None and workflow.lane.lane.batch is not None
    check.level(workflow.nodes, "nodes", _Outside(batch=batch))
    names = Names(workflow.nodes, workflow.nodes, batch=batch)
    if workflow.on_error is not None:
        check.inputs(workflow.on_error, "on_error", ENDING_ROOTS, names)
    check.template(workflow.output, "output", SCOPE, names)


def _count(nodes: Mapping[str, Node]) -> int:
    return sum(1 + (_count(node.body.nodes) if node.body is not None else 0) for node in nodes.values())


class _Outside(msgspec.Struct, frozen=True):
    """What surrounds a level: `nodes` by name, of these `before` those that its `map` needs."""

    nodes: frozenset[str] = frozenset()
    before: frozenset[str] = frozenset()
    inside: bool = False
    sound: bool = True
    batch: bool = False


class _Check:
    def __init__(self, faults: list[str]) -> None:
        self._faults = faults

    def level(self, nodes: Mapping[str, Node], path: str, outside: _Outside) -> None:
        """The nodes of the workflow, or those of a map at `path`."""
        for name in nodes:
            if name in outside.nodes:
                text = "expected a name that no node around the map has, so that expressions are clear"
                self._faults.append(f"{path}.{name}: {text}, got {name!r}")
        needs, sound = self._needs(nodes, path, outside)
        sound = sound and outside.sound
        before = ancestors(needs) if sound else dict.fromkeys(nodes, frozenset[str]())
        if sound:
            for name, why in unreachable(nodes):
                self._faults.append(f"{path}.{name}: expected a node that can run, got one that never does: {why}")
        all_names = outside.nodes | frozenset(nodes)
        for name, node in nodes.items():
            place = f"{path}.{name}"
            whose = f"{name} needs, itself or through others"
            visible = before[name] | outside.before
            names = Names(all_names, visible, whose, sound, outside.inside, outside.batch)
            roots = ITEM_ROOTS if outside.inside else SCOPE
            if node.condition is not None:
                self._expression(node.condition, f"{place}.if", roots, names)
            self.inputs(node, place, roots, names)
            if node.cache is not None and node.cache.key is not None:
                self._expression(node.cache.key, f"{place}.cache.key", roots, names)
            if node.undo is not None:
                own = msgspec.structs.replace(names, before=visible | {name})
                self.inputs(node.undo, f"{place}.compensate", ENDING_ROOTS, own)
            if node.body is not None:
                inner = _Outside(all_names, visible, True, sound, outside.batch)
                self._body(node.body, place, inner)

    def _body(self, body: Body, place: str, outside: _Outside) -> None:
        self.level(body.nodes, f"{place}.nodes", outside)
        everyone = outside.nodes | frozenset(body.nodes)
        whose = "the map needs, or its own nodes"
        names = Names(everyone, outside.before | frozenset(body.nodes), whose, outside.sound, True, outside.batch)
        self.template(body.collect, f"{place}.collect", ITEM_ROOTS, names)

    def _needs(
        self, nodes: Mapping[str, Node], path: str, outside: _Outside
    ) -> tuple[dict[str, tuple[str, ...]], bool]:
        """What each node needs of these, and whether that makes a graph."""
        sound = True
        for node in nodes.values():
            joined = {"needs.all" if node.any else "needs": node.needs, "needs.any": node.any}
            for key, names in joined.items():
                for index, need in enumerate(names):
                    if need not in nodes:
                        sound = False
                        self._faults.append(f"{path}.{node.name}.{key}[{index}]: {_no_node(need, nodes, outside)}")
        needs = {
            name: tuple(need for need in (*node.needs, *node.any) if need in nodes) for name, node in nodes.items()
        }
        around = cycle(needs)
        if around:
            sound = False
            self._faults.append(f"{path}: expected no cycle, got {' needs '.join(around)}")
        return needs, sound

    def inputs(self, node: Node, place: str, roots: tuple[str, ...], names: Names) -> None:
        """The expressions in `with`, and the `match` of a `wait.event`."""
        inputs = node.inputs
        if node.uses == "wait.event":
            match = inputs.get("match")
            inputs = {key: value for key, value in inputs.items() if key != "match"}
            if isinstance(match, str) and not has_expressions(match):
                with suppress(ExpressionError):  # told of where it was read
                    found = names.faults(Expression(match, MATCH_ROOTS))
                    self._faults.extend(f"{place}.with.match: {fault}" for fault in found)
        self.template(inputs, f"{place}.with", roots, names)

    def template(self, value: Any, place: str, roots: tuple[str, ...], names: Names) -> None:
        """A template's expressions. UNSET is none."""
        if value is msgspec.UNSET:
            return
        try:
            expressions = Template(value, roots).expressions
        except TemplateError as error:
            self._faults.extend(f"{_joined(place, path)}: {text}" for path, text in error.faults)
            return
        for expression in expressions:
            self._faults.extend(f"{place}: {fault}" for fault in names.faults(expression))

    def _expression(self, source: str, place: str, roots: tuple[str, ...], names: Names) -> None:
        try:
            expression = Expression(source, roots)
        except ExpressionError as error:
            self._faults.append(f"{place}: {error}")
            return
        self._faults.extend(f"{place}: {fault}" for fault in names.faults(expression))


def _no_node(need: str, nodes: Mapping[str, Node], outside: _Outside) -> str:
    if need in outside.nodes:
        return f"expected a node of the same map, got {need!r}, which is outside: let the map need it"
    return f"expected a node, got {need!r}{did_you_mean(need, nodes)}"


def _joined(place: str, path: str) -> str:
    if not path:
        return place
    return f"{place}{path}" if path.startswith("[") else f"{place}.{path}"
