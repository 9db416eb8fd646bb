"""A node's `with`, against what its type takes: names all, values as far as they hold no expression."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from events.settings import parse_duration
from executor.workflow.controls import MOST_LOOK_BACK
from executor.workflow.matching import compile_match
from executor.workflow.outcomes import NodeError
from executor.workflow.parsing_triggers import glob_fault
from executor.workflow.reading import NAME, Reader
from executor.workflow.templates import has_expressions
from executor.workflow.wording import did_you_mean, shown

_YEAR = 366 * 86_400.0
MOST_WAIT = 10 * _YEAR
"""Seconds that a wait may last."""


def check_inputs(reader: Reader, inputs: Mapping[str, Any], struct: type[msgspec.Struct]) -> None:
    """Against the node type's Struct."""
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


def check_control(reader: Reader, uses: str, inputs: Mapping[str, Any]) -> None:
    """What a Struct cannot say of the inputs of the node types that the engine carries out itself."""
    match uses:
        case "wait.timer":
            if (inputs.get("for") is None) == (inputs.get("until") is None):
                got = "none" if inputs.get("for") is None else "both"
                reader.fault("with", f"expected one of for and until, got {got}")
            _duration(reader, inputs, "for", MOST_WAIT)
            _moment(reader, inputs, "until")
        case "wait.event":
            _event(reader, inputs)
        case "wait.approval":
            _duration(reader, inputs, "timeout", MOST_WAIT)
        case "workflow.run":
            _name(reader, inputs, "workflow", "a workflow's name")
        case "map":
            items = inputs.get("items")
            if items is not None and not has_expressions(items) and not isinstance(items, list):
                reader.fault("with.items", f"expected a list, or an expression that gives one, got {shown(items)}")
        case _:
            pass


def _event(reader: Reader, inputs: Mapping[str, Any]) -> None:
    source, match = inputs.get("source"), inputs.get("match")
    if isinstance(source, str) and has_expressions(source):
        text = "expected a source's name and no expression: events are looked out for from the moment it is applied"
        reader.fault("with.source", f"{text}, got {shown(source)}")
    else:
        _name(reader, inputs, "source", "a source's name")
    if isinstance(match, str):
        if has_expressions(match):
            reader.fault("with.match", "expected CEL without ${{ }}, got ${{")
        else:
            try:
                compile_match(match)
            except NodeError as error:
                reader.fault("with.match", str(error))
    glob = inputs.get("type")
    if isinstance(glob, str) and not has_expressions(glob) and (fault := glob_fault(glob)) is not None:
        reader.fault("with.type", fault)
    _duration(reader, inputs, "timeout", MOST_WAIT)
    _duration(reader, inputs, "look_back", MOST_LOOK_BACK, least=0.0)


def _name(reader: Reader, inputs: Mapping[str, Any], key: str, what: str, pattern: re.Pattern[str] = NAME) -> None:
    value = inputs.get(key)
    if isinstance(value, str) and not has_expressions(value) and not pattern.fullmatch(value):
        reader.fault(f"with.{key}", f"expected {what}, got {shown(value)}")


def _duration(reader: Reader, inputs: Mapping[str, Any], key: str, most: float, least: float = 1e-3) -> None:
    value = inputs.get(key)
    if value is None or has_expressions(value) or not isinstance(value, str | int | float) or isinstance(value, bool):
        return  # not there, not known yet, or told of already
    try:
        fits = least <= parse_duration(value) <= most
    except ValueError:
        fits = False
    if not fits:
        text = f"expected a duration such as 30s, 5m or 24h, up to {most / 86_400:g}d"
        reader.fault(f"with.{key}", f"{text}, got {shown(value)}")


def _moment(reader: Reader, inputs: Mapping[str, Any], key: str) -> None:
    value = inputs.get(key)
    if not isinstance(value, str) or has_expressions(value):
        return
    try:
        fits = datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        fits = False
    if not fits:
        text = "expected Unix seconds, or RFC 3339 with a time zone such as 2026-01-31T09:00:00+01:00"
        reader.fault(f"with.{key}", f"{text}, got {shown(value)}")
