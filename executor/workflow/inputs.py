"""What a run is given, against the JSON Schema (2020-12) of its workflow."""

from __future__ import annotations

from typing import Any

from referencing import Registry
from referencing.exceptions import Unresolvable

from executor.workflow.graph import Graph
from executor.workflow.outcomes import NodeError
from executor.workflow.schema_patterns import LinearValidator
from executor.workflow.schemas import schema_faults

__all__ = ["MOST_ERRORS", "check_input", "input_faults", "schema_faults"]

MOST_ERRORS = 10
"""Faults that are told of one input."""


_NOTHING: Registry[Any] = Registry()


def input_faults(schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with an input, each with its path; empty where it fits."""
    found: list[str] = []
    try:
        for error in LinearValidator(schema, registry=_NOTHING).iter_errors(value):
            found.append(f"{error.json_path}: {error.message}"[:500])
            if len(found) == MOST_ERRORS:
                break
    except RecursionError:
        found.append("$: expected a value that the schema can check, got one that it never ends with")
    except Unresolvable as error:
        found.append(f"$: the schema refers to what is not there: {error}"[:500])
    return found


def check_input(graph: Graph, value: Any) -> None:
    """Raises NodeError (`input`) when the workflow has a schema and the value does not fit it."""
    if graph.input is None:
        return
    if faults := input_faults(graph.input, value):
        raise NodeError("input", f"input of {graph.name}: {'; '.join(faults)}"[:2000])
