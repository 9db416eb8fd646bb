"""The workflow document as JSON Schema (2020-12), for editors and forms.

    editor_schema(Registry.load().specs())

It refuses what is wrong by its shape; what only the whole graph tells (cycles, names, CEL) is the parser's. What each
built-in node type takes comes from the Structs that the parser checks `with` against. A value in `with` that holds an
expression somewhere is let through, as the parser does. The built-in types' schema is kept beside this file and in
`docs/schema`; a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from executor.workflow.controls import CONTROLS
from executor.workflow.definition import MAX_NODES, QUEUES, NodeSpec
from executor.workflow.lanes import MOST_LIMIT
from executor.workflow.parsing_lanes import THENS
from executor.workflow.parsing_nodes import MAX_CONCURRENCY, WHENS
from executor.workflow.reading import NAME, NODE_NAME
from executor.workflow.schedules import CATCH_UPS, SCHEDULED
from executor.workflow.schemas import DIALECT

ID = "urn:headrace:workflow"
"""The schema's `$id`."""

_Schema = dict[str, Any]


def editor_schema(specs: Mapping[str, NodeSpec]) -> _Schema:
    """The schema of a workflow document.

    Args:
        specs: the node types by `uses`; other types are let through, whatever they take.
    """
    defs = {
        "name": {"type": "string", "pattern": f"^{NAME.pattern}$"},
        "text": {"type": "string", "pattern": r"\S"},
        "words": {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True},
        "cel": {"type": "string", "pattern": r"\S", "description": "CEL, without ${{ }}."},
        "duration": _DURATION,
        "expression": _EXPRESSION,
        "trigger": _TRIGGER,
        "needs": _NEEDS,
        "retry": _RETRY,
        "cache": _CACHE,
        "limit": _LIMIT,
        "nodes": _nodes("node"),
        "item_nodes": _nodes("item_node"),
        "uses": {"anyOf": [{"enum": sorted(specs)}, {"$ref": "#/$defs/name"}], "description": "The node's type."},
        "inputs": _inputs(specs),
        "ending": _ENDING,
        "step": _STEP,
        "node": {"$ref": "#/$defs/step"},
        "item_node": {"$ref": "#/$defs/step", "properties": {"compensate": False}},
    }
    return {
        "$schema": DIALECT,
        "$id": ID,
        "title": "A Headrace workflow",
        "type": "object",
        "required": ["workflow", "nodes"],
        "additionalProperties": False,
        "properties": _WORKFLOW,
        "not": {"required": ["debounce", "batch"]},
        "$defs": defs,
    }


def encoded(specs: Mapping[str, NodeSpec]) -> bytes:
    """The schema as it is published: indented JSON with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(editor_schema(specs)), indent=2) + b"\n"


def _ref(name: str, description: str, **more: Any) -> _Schema:
    return {"$ref": f"#/$defs/{name}", "description": description, **more}


def _fields(required: list[str], description: str = "", **fields: Any) -> _Schema:
    told = {"description": description} if description else {}
    return {"type": "object", **told, "required": required, "additionalProperties": False, "properties": fields}


def _nodes(kind: str) -> _Schema:
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": MAX_NODES,
        "propertyNames": {"pattern": f"^{NODE_NAME.pattern}$"},
        "additionalProperties": {"$ref": f"#/$defs/{kind}"},
    }


def _inputs(specs: Mapping[str, NodeSpec]) -> _Schema:
    """What `with` takes, by `uses`."""
    return {"allOf": [_of_type(uses, spec.inputs) for uses, spec in sorted(specs.items()) if spec.inputs is not None]}


def _of_type(uses: str, inputs: type[msgspec.Struct]) -> _Schema:
    (reference,), parts = msgspec.json.schema_components([inputs], ref_template="#/$defs/{name}")
    whole = _inlined(reference, parts)
    taken = {name: _or_expression(uses, name, part) for name, part in whole["properties"].items()}
    given: _Schema = {"type": "object", "properties": taken, "required": whole["required"]}
    given["additionalProperties"] = False
    if "description" in whole:
        given["description"] = " ".join(whole["description"].split())
    if uses == "wait.timer":
        given["oneOf"] = [{"required": ["for"]}, {"required": ["until"]}]
    then: _Schema = {"properties": {"with": given}}
    if whole["required"] or uses == "wait.timer":
        then["required"] = ["with"]
    return {"if": {"properties": {"uses": {"const": uses}}, "required": ["uses"]}, "then": then}


def _or_expression(uses: str, name: str, part: _Schema) -> _Schema:
    if (uses, name) in _KNOWN:
        return _KNOWN[uses, name]
    if not set(part) - {"default", "description"}:
        return part
    held = {key: value for key, value in part.items() if key not in ("default", "description")}
    rest = {key: value for key, value in part.items() if key in ("default", "description")}
    return {"anyOf": [held, {"$ref": "#/$defs/expression"}], **rest}


def _inlined(schema: Any, parts: Mapping[str, Any], depth: int = 0) -> Any:
    """Without references: the types that nodes take are small. What nests into itself is not described to its end."""
    if isinstance(schema, list):
        return [_inlined(part, parts, depth) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(target := schema.get("$ref"), str):
        return {} if depth > 5 else _inlined(parts[target.removeprefix("#/$defs/")], parts, depth + 1)
    return {key: _inlined(part, parts, depth) for key, part in schema.items()}


_DURATION: _Schema = {
    "description": "Seconds, or text such as 250ms, 30s, 5m, 1h30m, 7d.",
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d)?\s*)+$"},
    ],
}
_EXPRESSION: _Schema = {
    "description": "A value that holds ${{ CEL }} somewhere.",
    "anyOf": [
        {"type": "string", "pattern": r"\$\{\{"},
        {"type": "array", "contains": {"$ref": "#/$defs/expression"}},
        {
            "type": "object",
            "not": {"additionalProperties": {"not": {"$ref": "#/$defs/expression"}}},
            "minProperties": 1,
        },
    ],
}
_MOMENT: _Schema = {"anyOf": [{"$ref": "#/$defs/duration"}, {"$ref": "#/$defs/expression"}]}
_KNOWN: dict[tuple[str, str], _Schema] = {
    ("wait.timer", "for"): _MOMENT,
    ("wait.event", "source"): {"$ref": "#/$defs/name"},
    ("wait.event", "match"): {"$ref": "#/$defs/cel"},
    ("wait.event", "timeout"): _MOMENT,
    ("wait.approval", "timeout"): _MOMENT,
    ("map", "items"): {
        "description": "The items: a list, or an expression that gives one.",
        "anyOf": [{"type": "array"}, {"$ref": "#/$defs/expression"}],
    },
}
"""What the Structs say less exactly than the parser."""
_TRIGGER: _Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "source": _ref("name", "The source's slug; `emit` for events that workflows emit."),
        "type": {"type": "string", "pattern": r"\S", "maxLength": 200, "description": "A glob over the event's type."},
        "if": _ref("cel", "Only events for which this is true; it may name `event`."),
        "schedule": {
            "type": "string",
            "pattern": r"^\s*\S+(\s+\S+){4}\s*$",
            "description": "Five cron fields: minute, hour, day of the month, month, day of the week.",
        },
        "tz": {"type": "string", "default": "UTC", "description": "The IANA name of the schedule's time zone."},
        "catch_up": {
            "enum": list(CATCH_UPS),
            "default": "last",
            "description": "What becomes of times at which nothing ran: dropped, the last one, or all (100 at most).",
        },
    },
    "if": {"required": ["schedule"]},
    "then": {"properties": {"source": False, "type": False, "if": False}},
    "else": {
        "required": ["source"],
        "properties": {"source": {"not": {"const": SCHEDULED}}, "tz": False, "catch_up": False},
    },
}
_NEEDS: _Schema = {
    "description": "The nodes that come before: a list (all of them), or all, any and at_least.",
    "if": {"type": "array"},
    "then": {"$ref": "#/$defs/words"},
    "else": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "all": _ref("words", "All of these."),
            "any": _ref("words", "Of these, at_least many.", minItems=1),
            "at_least": {"type": "integer", "minimum": 1, "default": 1},
        },
        "dependentRequired": {"at_least": ["any"]},
    },
}
_RETRY: _Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "max_attempts": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "The first one counts."},
        "first": _ref("duration", "The wait after the first failure."),
        "factor": {"type": "number", "minimum": 1, "maximum": 100, "description": "What each wait grows by."},
        "max": _ref("duration", "The longest wait."),
        "on": _ref("words", "Kinds of failure that are tried again: timeout, connection, http_5xx, …; empty: all."),
    },
}
_CACHE = _fields(
    ["ttl"],
    "The result serves again: for a node that only reads.",
    ttl=_ref("duration", "How long."),
    key=_ref("cel", "What tells results apart, in place of the inputs."),
    stale=_ref("duration", "How much longer a result serves if the call fails."),
)
_ENDING: _Schema = {
    "type": "object",
    "required": ["uses"],
    "additionalProperties": False,
    "properties": {
        "uses": {"$ref": "#/$defs/uses", "not": {"anyOf": [{"const": "map"}, {"pattern": r"^wait\."}]}},
        "with": {"type": "object"},
        "timeout": {"$ref": "#/$defs/duration"},
        "retry": {"$ref": "#/$defs/retry"},
    },
    "$ref": "#/$defs/inputs",
}
_LIMIT: _Schema = {
    "description": "The cost class of its calls; llm for llm.chat and search for search.web, unless said.",
    "anyOf": [
        {"$ref": "#/$defs/name"},
        {
            "type": "object",
            "required": ["class"],
            "additionalProperties": False,
            "properties": {
                "class": {"$ref": "#/$defs/name"},
                "reserve": {
                    "type": "number",
                    "minimum": 0,
                    "maximum": 1e12,
                    "default": 0,
                    "description": "What a call is taken to cost until it is known.",
                },
            },
        },
    ],
}
_STEP: _Schema = {
    "type": "object",
    "required": ["uses"],
    "additionalProperties": False,
    "properties": {
        "uses": {"$ref": "#/$defs/uses"},
        "with": {"type": "object", "description": "What the node is given; texts may hold ${{ CEL }}."},
        "needs": {"$ref": "#/$defs/needs"},
        "when": {"enum": list(WHENS), "default": "succeeded", "description": "What became of what it needs."},
        "if": _ref("cel", "False: the node is skipped."),
        "timeout": _ref("duration", "Of one attempt."),
        "retry": {"$ref": "#/$defs/retry"},
        "cache": {"$ref": "#/$defs/cache"},
        "limit": {"$ref": "#/$defs/limit"},
        "compensate": _ref("ending", "What takes back what this node did, should the run fail later."),
        "nodes": _ref("item_nodes", "Of a map: what each item goes through; may name item and index."),
        "collect": {"description": "Of a map: the output of an item."},
        "concurrency": {"type": "integer", "minimum": 1, "maximum": MAX_CONCURRENCY, "default": 10},
        "failures": {
            "description": "Of a map: how many items may fail before the map does.",
            "anyOf": [{"type": "integer", "minimum": 0}, {"const": "any"}],
            "default": 0,
        },
    },
    "allOf": [
        {"$ref": "#/$defs/inputs"},
        {
            "if": {"properties": {"uses": {"const": "map"}}, "required": ["uses"]},
            "then": {"required": ["nodes"]},
            "else": {"properties": {"nodes": False, "collect": False, "concurrency": False, "failures": False}},
        },
        {
            "if": {"properties": {"uses": {"enum": sorted(CONTROLS)}}, "required": ["uses"]},
            "then": {"properties": {"cache": False, "limit": False}},
        },
    ],
}
_COUNT: _Schema = {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT}
_WORKFLOW: _Schema = {
    "workflow": _ref("name", "The workflow's name."),
    "on": {"type": "array", "items": {"$ref": "#/$defs/trigger"}, "description": "Any of these starts a run."},
    "queue": {"enum": list(QUEUES), "default": "webhook"},
    "timeout": _ref("duration", "Of a whole run."),
    "key": {
        "description": "Runs with the same key wait for each other.",
        "anyOf": [
            {"$ref": "#/$defs/cel"},
            _fields(["value"], value={"$ref": "#/$defs/cel"}, then={"enum": list(THENS), "default": "wait"}),
        ],
    },
    "concurrency": {**_COUNT, "description": "How many runs may be active at once: of a key, or of the workflow."},
    "debounce": _fields(
        ["for"],
        "One run, for the last delivery, once none came for a while.",
        **{"for": _ref("duration", "Without a delivery."), "at_most": _ref("duration", "After the first.")},
    ),
    "throttle": _fields(
        ["limit", "per"],
        "At most so many starts in any such time; the rest start later.",
        limit=_COUNT,
        per={"$ref": "#/$defs/duration"},
    ),
    "batch": _fields(
        ["size", "within"],
        "One run for several deliveries; expressions may name events.",
        size=_COUNT,
        within=_ref("duration", "After the first."),
    ),
    "input": {"type": "object", "description": "The JSON Schema (2020-12) of what a run is given as input."},
    "nodes": {"$ref": "#/$defs/nodes"},
    "output": {"description": "The run's output; texts may hold ${{ CEL }}."},
    "on_error": _ref("ending", "Runs when a run has failed; may name error."),
}
