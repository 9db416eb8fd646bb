"""Stand-ins for nodes: a value, an exception, or a function of the inputs, for a node type or for one node.

A stub is asked for by the node's path, then by its name, then by its type (`uses`). What it returns passes the checks
of a node's output; what it raises fails the attempt, a NodeError with its kind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from executor.engine.context import NodeContext
from executor.engine.registry import NodeType, Registry, Runs
from executor.workflow.controls import CONTROLS
from executor.workflow.outcomes import NodeError
from executor.workflow.paths import steps

Stub = Any
"""A JSON-like value, an exception to raise, a list of these for one attempt after the other (the last one stays), or a
function `(inputs) -> value`, also `async`."""

OUTSIDE = frozenset({"http.request", "llm.chat", "search.web", "webhook.deliver"})
"""Node types that reach out of the process: in a test they need a stub."""


class Call(msgspec.Struct, frozen=True):
    """A call of a node: where, with what, and the key that it would have sent along."""

    node: str
    uses: str
    inputs: dict[str, Any]
    attempt: int
    idempotency_key: str


class Stubs:
    """The nodes of a registry behind stubs, and a record of all calls.

    Raises:
        ValueError: there is a stub for a control node, which the engine carries out itself.
    """

    def __init__(self, registry: Registry, stubs: Mapping[str, Stub]) -> None:
        for name in stubs:
            if name in CONTROLS:
                raise ValueError(
                    f"stub {name!r}: expected a node or a node type that does work, got one of the engine's"
                )
        self._stubs = stubs
        self.calls: list[Call] = []
        self.registry = Registry({uses: self._wrap(kind) for uses, kind in registry.items()})

    def _wrap(self, kind: NodeType) -> NodeType:
        async def call(context: NodeContext, **inputs: Any) -> Any:
            plain = msgspec.to_builtins({name: value for name, value in inputs.items() if value is not msgspec.UNSET})
            self.calls.append(Call(context.node, kind.uses, plain, context.attempt, context.idempotency_key))
            found = self._find(context.node, kind.uses)
            if found is None:
                if kind.uses in OUTSIDE:
                    raise NodeError(
                        "stub", f"{context.node}: expected a stub for {kind.uses!r}, got none: give stubs=…"
                    )
                arguments = {**inputs, "context": context} if kind.takes_context else inputs
                return await _value(kind.function(**_renamed(kind, arguments)))
            return await _answer(found[0], plain, context.attempt)

        return msgspec.structs.replace(kind, function=call, takes_context=True, runs=Runs.IN_LOOP)

    def _find(self, path: str, uses: str) -> tuple[Stub] | None:
        for name in (path, steps(path)[1], uses):
            if name in self._stubs:
                return (self._stubs[name],)
        return None


def _renamed(kind: NodeType, arguments: dict[str, Any]) -> dict[str, Any]:
    """The context under the name that the function gives its first parameter."""
    if not kind.takes_context:
        return arguments
    first = next(iter(inspect.signature(kind.function).parameters))
    return {first: arguments.pop("context"), **arguments}


async def _answer(stub: Stub, inputs: dict[str, Any], attempt: int) -> Any:
    if isinstance(stub, list) and stub and any(isinstance(part, BaseException) or callable(part) for part in stub):
        stub = stub[min(attempt, len(stub)) - 1]
    if isinstance(stub, BaseException):
        raise stub
    if callable(stub):
        function: Callable[[dict[str, Any]], Any] = stub
        return await _value(function(inputs))
    return stub


async def _value(returned: Any) -> Any:
    return await returned if inspect.isawaitable(returned) else returned
