"""What a run is given, against the JSON Schema (2020-12) of its workflow."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from executor.workflow.graph import Graph
from executor.workflow.outcomes import NodeError

MOST_ERRORS = 10
"""Faults that are told of one input."""


def schema_faults(schema: Any) -> list[str]:
    """Why this is no JSON Schema; empty where it is one."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return [f"{error.json_path}: {error.message}"[:500]]
    return []


def input_faults(schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with an input, each with its path; empty where it fits."""
    found = []
    for error in Draft202012Validator(schema).iter_errors(value):
        found.append(f"{error.json_path}: {error.message}"[:500])
        if len(found) == MOST_ERRORS:
            break
    return found


def check_input(graph: Graph, value: Any) -> None:
    """Raises NodeError (`input`) when the workflow has a schema and the value does not fit it."""
    if graph.input is None:
        return
    if faults := input_faults(graph.input, value):
        raise NodeError("input", f"input of {graph.name}: {'; '.join(faults)}"[:2000])
