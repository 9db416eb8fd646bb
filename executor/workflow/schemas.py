"""JSON Schemas (2020-12) that people write: checked so that using one can neither fetch anything nor go on for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from executor.workflow.schema_patterns import found

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES = ("$ref", "$dynamicRef")


def schema_faults(schema: Any) -> list[str]:
    """Why this is no JSON Schema, or none that is allowed; empty where it is one.

    A reference may only lead into the schema itself, which has no `$id`: nothing is ever fetched. A `pattern` takes
    linear time (`schema_patterns`); `patternProperties`, which does not, is refused.
    """
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return [f"{error.json_path}: {error.message}"[:500]]
    except RecursionError:
        return ["$: expected a schema that is nested less deep"]
    return list(_strangers(schema, "$"))


def _strangers(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("$schema", DIALECT) not in (DIALECT, DIALECT + "#"):
            yield f"{path}.$schema: expected {DIALECT}, got {str(value['$schema'])[:100]!r}"
        if isinstance(value.get("$id"), str):
            yield f"{path}.$id: expected none, got one"
        for key in _REFERENCES:
            target = value.get(key)
            if isinstance(target, str) and not target.startswith("#"):
                yield f"{path}.{key}: expected a reference into this schema (#/$defs/…), got {target[:100]!r}"
        if isinstance(value.get("pattern"), str):
            try:
                found(value["pattern"], "")
            except ValueError as error:
                yield f"{path}.pattern: {error}"
        if "patternProperties" in value and not path.endswith(".properties"):
            yield f"{path}.patternProperties: expected none, got some; use propertyNames and additionalProperties"
        for key, part in value.items():
            if key not in ("const", "enum", "default", "examples"):
                yield from _strangers(part, f"{path}.{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _strangers(part, f"{path}[{index}]")
