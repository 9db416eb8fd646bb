"""The events of a run, a line each, as people read them in its history."""

from __future__ import annotations

from typing import Any

from executor.cli.common import moment, span
from executor.cli.short import shortened


def told(type: str, said: dict[str, Any]) -> str:
    """What an event says. `said`: its body. A type that is not known here is told by its name."""
    area, _, what = type.partition(".")
    match area:
        case "node":
            return f"{said.get('node')}: {_node(what, said)}"
        case "item":
            then = f"failed: {shortened(said['error'])}" if said.get("error") else shortened(said.get("output"))
            return f"{said.get('node')}: item {said.get('index')} {then}"
        case "signal":
            return _signal(said)
        case _:
            return _run(what, said)


def _node(what: str, said: dict[str, Any]) -> str:  # noqa: PLR0911 - one case for each type of event
    attempt = f"attempt {said.get('attempt')}, {span(said.get('seconds', 0.0))}"
    match what:
        case "completed":
            source = _CACHE.get(said.get("cache", ""), "")
            return f"completed ({attempt}{source}) {shortened(said.get('output'))}"
        case "failed":
            again = said.get("retry_at")
            then = f"; again at {moment(again)}" if again else "; not tried again"
            return f"failed ({attempt}) {said['kind']}: {shortened(said['message'])}{then}"
        case "deferred":
            return f"put off until {moment(said['until'])}: {shortened(said.get('reason', ''))}"
        case "skipped":
            return f"skipped: {shortened(said.get('reason', ''))}"
        case "mapped":
            return f"{said.get('count', 0):,} items to work on"
        case "waiting":
            until = said.get("until")
            return f"waits for {_wait(said.get('wait', {}))}{f', until {moment(until)} at most' if until else ''}"
        case other:
            return other


_CACHE = {
    "hit": ", cache hit",
    "stale": ", cache stale: the call failed",
    "miss": ", cache miss",
}


def _wait(wait: dict[str, Any]) -> str:
    match wait.get("type"):
        case "timer":
            return "its time"
        case "event":
            return f"an event of {wait.get('source')}, type {wait.get('glob')}"
        case "approval":
            return f"a decision: {shortened(wait['text'])}" if wait.get("text") else "a decision (headrace approve)"
        case "child":
            return f"run {wait.get('run_id')} of {wait.get('workflow')}"
        case other:
            return str(other)


def _signal(said: dict[str, Any]) -> str:
    node = f" for {said['node']}" if said.get("node") else ""
    by = f" by {said['by']}" if said.get("by") else ""
    note = f": {said['note']}" if said.get("note") else ""
    return f"heard {said.get('type')}{node}{by}{note}"


def _run(what: str, said: dict[str, Any]) -> str:
    by = f" by {said['by']}" if said.get("by") else ""
    why = said.get("error") or said.get("reason")
    nodes = f", again: {', '.join(said['nodes'])}" if said.get("nodes") else ""
    output = f" {shortened(said['output'])}" if said.get("output") is not None else ""
    return f"{what}{by}{nodes}{output}{f': {shortened(why)}' if why else ''}"
