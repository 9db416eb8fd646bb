"""From a document to a `Workflow`: validated whole, all faults at once.

Expressions are compiled here for what they tell (syntax, names, the nodes they mention) and once more when
the engine compiles the graph: reading is rare, and a `Workflow` stays plain data. The parts are in `parsing_*`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from events.errors import ConfigError
from executor.workflow.definition import MAX_DEPTH, MAX_DOCUMENT, QUEUES, NodeSpec, Queue, Workflow, canonical
from executor.workflow.parsing_checks import check_graph
from executor.workflow.parsing_lanes import LANE_KEYS, read_lane
from executor.workflow.parsing_names import FIELDS
from executor.workflow.parsing_nodes import read_ending, read_nodes
from executor.workflow.parsing_triggers import read_triggers
from executor.workflow.paths import ON_ERROR
from executor.workflow.reading import Reader
from executor.workflow.schemas import schema_faults
from executor.workflow.wording import shown

__all__ = ["FIELDS", "WORKFLOW_KEYS", "parse_workflow"]

WORKFLOW_KEYS = ("workflow", "on", "queue", "timeout", *LANE_KEYS, "input", "nodes", "output", "on_error")


def parse_workflow(document: Mapping[str, Any], node_types: Mapping[str, NodeSpec] | None = None) -> Workflow:
    """The workflow that a document describes.

    Args:
        node_types: the node types by `uses`, besides the engine's own, which are always known; None leaves the `uses`
            and `with` of all others unchecked.

    Raises:
        ConfigError: with every fault, each as "path: expected …, got …".
    """
    _check_size(document)
    faults: list[str] = []
    reader = Reader("", document, WORKFLOW_KEYS, faults)
    workflow = Workflow(
        name=reader.name("workflow"),
        on=read_triggers(reader),
        queue=cast(Queue, reader.choice("queue", QUEUES, "webhook")),
        timeout=reader.duration("timeout"),
        lane=read_lane(reader),
        input=_input(reader),
        nodes=read_nodes(reader, node_types),
        output=reader.values.get("output", msgspec.UNSET),
        on_error=read_ending(reader, "on_error", ON_ERROR, node_types),
    )
    check_graph(workflow, faults)
    if faults:
        raise ConfigError(f"workflow {workflow.name}" if workflow.name else "workflow", faults)
    return workflow


def _input(reader: Reader) -> dict[str, Any] | None:
    """The schema of what a run is given."""
    schema = reader.values.get("input")
    if schema is None:
        return None
    if not isinstance(schema, Mapping):
        reader.fault("input", f"expected a JSON Schema (2020-12), got {shown(schema)}")
        return None
    for fault in schema_faults(schema):
        reader.fault("input", f"expected a JSON Schema (2020-12), got: {fault}")
    return dict(schema)


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
