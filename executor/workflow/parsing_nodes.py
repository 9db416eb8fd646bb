"""The nodes of a document, field by field: a workflow's, those inside a `map`, compensations, `on_error`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from executor.workflow.backoff import Backoff
from executor.workflow.controls import CONTROLS
from executor.workflow.definition import (
    MAX_NODES,
    NODE_TIMEOUT,
    Body,
    Caching,
    CostClass,
    Node,
    NodeSpec,
    Retry,
    When,
)
from executor.workflow.parsing_inputs import check_control, check_inputs
from executor.workflow.paths import UNDO
from executor.workflow.reading import NODE_NAME, Reader
from executor.workflow.wording import did_you_mean, shown

NODE_KEYS = ("uses", "with", "needs", "when", "if", "timeout", "retry", "cache", "limit", "compensate")
MAP_KEYS = ("nodes", "collect", "concurrency", "failures")
ENDING_KEYS = ("uses", "with", "timeout", "retry")
NEEDS_KEYS = ("all", "any", "at_least")
LIMIT_KEYS = ("class", "reserve")
CACHE_KEYS = ("ttl", "key", "stale")
RETRY_KEYS = ("max_attempts", "first", "factor", "max", "on")
WHENS: tuple[When, ...] = ("succeeded", "failed", "always")
MAX_LEVELS = 3
"""How deep maps stand in maps."""
MAX_CONCURRENCY = 100
_DAY = 86_400.0

Specs = Mapping[str, NodeSpec] | None
"""Node types by `uses`; None: any but the engine's own are unchecked."""


def read_nodes(parent: Reader, specs: Specs, level: int = 0) -> dict[str, Node]:
    """The nodes at `nodes`. `level`: how many maps they stand in."""
    values = parent.values.get("nodes")
    if not isinstance(values, Mapping) or not values:
        parent.fault("nodes", f"expected at least one node, got {shown(values) if values else 'none'}")
        return {}
    if len(values) > MAX_NODES:
        parent.fault("nodes", f"expected at most {MAX_NODES:,} nodes, got {len(values):,}")
        return {}
    return {str(name): _node(parent, str(name), value, specs, level) for name, value in values.items()}


def read_ending(parent: Reader, key: str, name: str, specs: Specs) -> Node | None:
    """A node that stands alone: a compensation, or `on_error`. `name`: what it goes by in a run."""
    if key not in parent.values:
        return None
    value = parent.values[key]
    reader = Reader(parent.at(key), value, ENDING_KEYS, parent.faults)
    if not isinstance(value, Mapping):
        return None
    node = _alone(reader, name, specs)
    if node.uses == "map" or node.uses.startswith("wait.") or _awaits(node):
        text = "expected a node type that is done once it has run; for more, run a workflow with wait: false"
        reader.fault("uses", f"{text}, got {node.uses}")
    return node


def _awaits(node: Node) -> bool:
    return node.uses == "workflow.run" and node.inputs.get("wait", True) is not False


def _node(parent: Reader, name: str, value: Any, specs: Specs, level: int) -> Node:
    path = f"{parent.at('nodes')}.{name}"
    reader = Reader(path, value, (*NODE_KEYS, *MAP_KEYS) if _is_map(value) else NODE_KEYS, parent.faults, MAP_KEYS)
    if not NODE_NAME.fullmatch(name):
        text = "expected a name of at most 64 letters, digits, - and _ that starts with no digit"
        parent.fault(f"nodes.{name[:80]}", f"{text}, got {shown(name)}")
    if not isinstance(value, Mapping):
        return Node(name=name, uses="")
    node = _alone(reader, name, specs)
    for key in MAP_KEYS:
        if key in reader.values and node.uses != "map":
            reader.fault(key, f"expected {key} only with uses: map, got it with {node.uses or 'nothing'}")
    when = cast(When, reader.choice("when", WHENS, "succeeded"))
    every, some, at_least = _needs(reader, when)
    if "compensate" in reader.values and level:
        text = "expected none inside a map: put it at the map, whose output tells what its items did"
        reader.fault("compensate", f"{text}, got one")
    return msgspec.structs.replace(
        node,
        needs=every,
        any=some,
        at_least=at_least,
        when=when,
        condition=reader.text("if"),
        body=_body(reader, specs, level) if node.uses == "map" else None,
        undo=None if level else read_ending(reader, "compensate", name + UNDO, specs),
        cache=_cache(reader, node.uses),
        limit=_limit(reader, node.uses),
    )


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("uses") == "map"


def _alone(reader: Reader, name: str, specs: Specs) -> Node:
    """What a node is without those beside it: its type, inputs and policies."""
    uses = reader.name("uses")
    spec = CONTROLS.get(uses) or (specs.get(uses) if specs is not None else None)
    if specs is not None and uses and spec is None:
        known = {**CONTROLS, **specs}
        hint = did_you_mean(uses, known) or f"; there are {', '.join(sorted(known))}"
        reader.fault("uses", f"expected a node type, got {uses!r}{hint}")
    inputs = reader.values.get("with", {})
    if not isinstance(inputs, Mapping):
        reader.fault("with", f"expected keys and values, got {shown(inputs)}")
    elif spec is not None and spec.inputs is not None:
        check_inputs(reader, inputs, spec.inputs)
        check_control(reader, uses, inputs)
    timeout = reader.duration("timeout", most=_DAY) or (spec.timeout if spec is not None else None)
    return Node(
        name=name,
        uses=uses,
        inputs=dict(inputs) if isinstance(inputs, Mapping) else {},
        timeout=timeout or NODE_TIMEOUT,
        retry=_retry(reader, spec.retry if spec is not None else None),
        pure=spec.pure if spec is not None else False,
    )


def _needs(reader: Reader, when: When) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """(all, any, at_least)."""
    value = reader.values.get("needs", [])
    if not isinstance(value, Mapping):
        return reader.words("needs"), (), 1
    needs = Reader(reader.at("needs"), value, NEEDS_KEYS, reader.faults)
    every, some = needs.words("all"), needs.words("any")
    for index, name in enumerate(some):
        if name in every:
            needs.fault(f"any[{index}]", f"expected each once, got {name!r} among all too")
    if not some:
        if "any" in needs.values and not needs.values["any"]:
            needs.fault("any", "expected at least one node, got none")
        elif "at_least" in needs.values:
            needs.fault("at_least", "expected it only with any, got it without")
        return every, (), 1
    if when != "succeeded" and "at_least" in needs.values:
        text = "expected it only with when: succeeded; others wait until all that they need is settled"
        needs.fault("at_least", f"{text}, got it with when: {when}")
    return every, some, needs.whole("at_least", 1, least=1, most=len(some))


def _cache(parent: Reader, uses: str) -> Caching | None:
    if "cache" not in parent.values:
        return None
    if uses in CONTROLS:
        parent.fault("cache", f"expected it only with nodes that are called, got it with {uses}")
        return None
    reader = Reader(parent.at("cache"), parent.values["cache"], CACHE_KEYS, parent.faults)
    if isinstance(parent.values["cache"], Mapping) and "ttl" not in reader.values:
        reader.fault("ttl", "expected a duration such as 10m, got nothing")
    ttl = reader.duration("ttl", most=30 * _DAY)
    return Caching(ttl or 1.0, reader.text("key"), reader.duration("stale", most=30 * _DAY) or 0.0)


def _limit(parent: Reader, uses: str) -> CostClass | None:
    if "limit" not in parent.values:
        return None
    if uses in CONTROLS:
        parent.fault("limit", f"expected it only with nodes that are called, got it with {uses}")
        return None
    if isinstance(parent.values["limit"], str):
        return CostClass(parent.name("limit"))
    reader = Reader(parent.at("limit"), parent.values["limit"], LIMIT_KEYS, parent.faults)
    return CostClass(reader.name("class"), reader.number("reserve", 0.0, least=0.0, most=1e12))


def _body(reader: Reader, specs: Specs, level: int) -> Body:
    if level >= MAX_LEVELS:
        reader.fault(
            "nodes", f"expected maps in maps at most {MAX_LEVELS} deep, got more; run a workflow for each item"
        )
        nodes: dict[str, Node] = {}
    else:
        nodes = read_nodes(reader, specs, level + 1)
    failures: int | None = None
    if reader.values.get("failures") != "any":
        value = reader.values.get("failures", 0)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            failures = value
        else:
            reader.fault("failures", f"expected how many items may fail, or any, got {shown(value)}")
    return Body(
        nodes=nodes,
        collect=reader.values.get("collect", msgspec.UNSET),
        concurrency=reader.whole("concurrency", 10, least=1, most=MAX_CONCURRENCY),
        failures=failures,
    )


def _retry(parent: Reader, default: Retry | None) -> Retry | None:
    """The policy; what the document leaves out, the node type's says."""
    if "retry" not in parent.values:
        return default
    reader = Reader(parent.at("retry"), parent.values["retry"], RETRY_KEYS, parent.faults)
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
