"""Which workflows want a delivery: an index by source, a glob over the type, a condition over the rest.

A condition that cannot be evaluated (a key is missing, say) does not match, and its reason is handed on, so
that the delivery's history can tell why a workflow passed it over. Thousands of workflows on other sources
cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from executor.workflow.expressions import ExpressionError
from executor.workflow.graph import CompiledTrigger, Graph


class PassedOver(msgspec.Struct, frozen=True):
    """A workflow whose source and type fit, and why it does not start all the same."""

    workflow: str
    reason: str


class Match(msgspec.Struct, frozen=True):
    """What came of a delivery: the workflows to start, each once, and those that a condition kept back."""

    wanted: tuple[Graph, ...]
    passed_over: tuple[PassedOver, ...]


class Triggers:
    """The triggers of the current workflows.

    Args:
        graphs: one version per name.
    """

    def __init__(self, graphs: Iterable[Graph]) -> None:
        self._by_source: dict[str, list[tuple[Graph, tuple[CompiledTrigger, ...]]]] = {}
        for graph in graphs:
            for source in dict.fromkeys(trigger.source for trigger in graph.triggers):
                own = tuple(trigger for trigger in graph.triggers if trigger.source == source)
                self._by_source.setdefault(source, []).append((graph, own))

    def match(self, event: Mapping[str, Any], only: str | None = None) -> Match:
        """The workflows that want a delivery, in the order they were given.

        Args:
            event: what `event` is in expressions; of it `source` and `type` are always used.
            only: consider this workflow alone (a replay for one workflow).
        """
        kind = event["type"]
        scope = {"event": event}
        wanted: list[Graph] = []
        passed_over: list[PassedOver] = []
        for graph, triggers in self._by_source.get(event["source"], ()):
            if only is not None and graph.name != only:
                continue
            reasons: list[str] = []
            for trigger in triggers:
                if trigger.type is not None and trigger.type.match(kind) is None:
                    continue
                reason = _refusal(trigger, scope)
                if reason is None:
                    wanted.append(graph)
                    break
                reasons.append(reason)
            else:
                if reasons:
                    passed_over.append(PassedOver(graph.name, "; ".join(reasons)[:1000]))
        return Match(tuple(wanted), tuple(passed_over))


def _refusal(trigger: CompiledTrigger, scope: Mapping[str, Any]) -> str | None:
    """Why the condition keeps the delivery back; None where it does not."""
    if trigger.condition is None:
        return None
    try:
        verdict = trigger.condition.evaluate(scope)
    except ExpressionError as error:
        return f"if failed: {error}"
    if verdict is True:
        return None
    if verdict is False:
        return f"if was false: {trigger.condition.source[:200]}"
    return f"if failed: {trigger.condition.source[:200]}: expected true or false, got {verdict!r}"[:500]
