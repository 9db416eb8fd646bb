"""Node types: the `@node` decorator that marks a function, and the registry that finds the marked functions.

The decorator changes nothing but an attribute, and nothing is registered by an import: a registry is built
once, by a composition root, from the modules it is given. What a function accepts is its signature: it
becomes a msgspec Struct that refuses unknown fields, so a mistake in a workflow's `with` shows when the
workflow is published.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from importlib.metadata import entry_points
from types import ModuleType, NoneType
from typing import Any, TypeVar

import msgspec

from events.errors import ConfigError
from executor.engine.context import NodeContext
from executor.workflow.controls import CONTROLS
from executor.workflow.graph import NodeSpec, Retry

ENTRY_POINT_GROUP = "headrace.nodes"
_BUILT_IN = "executor.nodes"
_MARK = "__headrace_node__"
_PLAIN = (str, int, float, bool, NoneType)

F = TypeVar("F", bound=Callable[..., Any])


class Runs(Enum):
    """Where a node's function runs."""

    IN_LOOP = "in the worker's loop"
    IN_PROCESS = "in a process that can be killed"


class Mark(msgspec.Struct, frozen=True):
    """What `@node` leaves on a function."""

    uses: str
    timeout: float | None
    retry: Retry | None
    pure: bool
    version: int = 1


class NodeType(msgspec.Struct, frozen=True):
    """One node type. `inputs` is the Struct that the function's parameters make, without the context."""

    uses: str
    function: Callable[..., Any]
    inputs: type[msgspec.Struct]
    takes_context: bool
    runs: Runs
    pure: bool
    timeout: float | None
    retry: Retry | None
    module: str
    version: int = 1

    @property
    def qualname(self) -> str:
        """The function's name within its module; a process finds the function by it."""
        return str(self.function.__qualname__)


def node(
    uses: str, *, timeout: float | None = None, retry: Retry | None = None, pure: bool = False, version: int = 1
) -> Callable[[F], F]:
    """Mark a function as a node type.

    An `async def` runs in the worker's loop; a plain `def` runs in a process that is killed at the timeout.
    Every parameter needs an annotation; one annotated `NodeContext` receives the context.

    Args:
        uses: the name that workflows write, for example `crm.lookup`.
        timeout: seconds per attempt where the workflow says nothing. Default: the engine's (30 s).
        retry: the retry policy where the workflow says nothing. Default: none.
        pure: it has no effects and may be computed again, so it is committed with the next commit of its run.
        version: raise it when the same inputs come to another output: results that were cached before do not serve
            any more.
    """

    def mark(function: F) -> F:
        setattr(function, _MARK, Mark(uses, timeout, retry, pure, version))
        return function

    return mark


def node_type(function: Callable[..., Any]) -> NodeType:
    """The node type that a marked function is.

    Raises:
        ValueError: its signature cannot be one, with what was expected.
    """
    mark: Mark = getattr(function, _MARK)
    if mark.timeout is not None and mark.timeout <= 0:
        raise ValueError(f"expected a timeout of more than 0 s, got {mark.timeout}")
    runs = Runs.IN_LOOP if inspect.iscoroutinefunction(function) else Runs.IN_PROCESS
    if runs is Runs.IN_PROCESS and "<locals>" in function.__qualname__:
        raise ValueError("expected a synchronous node at the top of its module, got a nested function")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ValueError(f"expected annotations that can be resolved at run time, got: {error}") from None
    takes_context, fields = _parameters(function, hints)
    try:
        inputs = msgspec.defstruct(f"{mark.uses} inputs", fields, kw_only=True, frozen=True, forbid_unknown_fields=True)
        msgspec.json.schema(inputs)  # refuses types that no JSON value can become
    except TypeError as error:
        raise ValueError(f"expected parameters of types that msgspec converts, got: {error}") from None
    return NodeType(
        mark.uses,
        function,
        inputs,
        takes_context,
        runs,
        mark.pure,
        mark.timeout,
        mark.retry,
        function.__module__,
        mark.version,
    )


def _parameters(function: Callable[..., Any], hints: Mapping[str, Any]) -> tuple[bool, list[Any]]:
    """Whether the first parameter is the context, and a Struct field for each other parameter."""
    fields: list[Any] = []
    takes_context = False
    for position, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ValueError(f"expected parameters with names, got {parameter}")
        if name not in hints:
            raise ValueError(f"expected an annotation for every parameter, got none for {name!r}")
        if hints[name] is NodeContext:
            if position != 0:
                raise ValueError("expected the NodeContext as the first parameter")
            takes_context = True
        elif parameter.default is parameter.empty:
            fields.append((name, hints[name]))
        elif isinstance(parameter.default, _PLAIN):
            fields.append((name, hints[name], parameter.default))
        else:  # a copy for each call: a list that one call fills is not the next one's default
            fields.append((name, hints[name], msgspec.field(default_factory=partial(copy.deepcopy, parameter.default))))
    return takes_context, fields


class Registry(Mapping[str, NodeType]):
    """All node types of this process, by `uses`."""

    def __init__(self, types: Mapping[str, NodeType]) -> None:
        self._types = dict(types)

    @classmethod
    def load(cls, modules: Sequence[str] = ()) -> Registry:
        """The built-in types, those of the entry point group `headrace.nodes`, and those of `modules`.

        Each entry point names a module.

        Raises:
            ConfigError: with every fault: a module that cannot be imported, a bad signature, a name that is
                taken.
        """
        faults: list[str] = []
        types: dict[str, NodeType] = {}
        built_in = importlib.import_module(_BUILT_IN)
        names = [f"{_BUILT_IN}.{module.name}" for module in pkgutil.iter_modules(built_in.__path__)]
        names += [point.module for point in entry_points(group=ENTRY_POINT_GROUP)]
        for name in dict.fromkeys([*names, *modules]):
            try:
                module = importlib.import_module(name)
            except Exception as error:  # whatever the module's own code raises
                faults.append(f"{name}: expected a module that can be imported, got {type(error).__name__}: {error}")
                continue
            for function in _marked(module):
                _add(types, function, faults)
        if faults:
            raise ConfigError("node types", faults)
        return cls(types)

    def __getitem__(self, uses: str) -> NodeType:
        """The node type of that name.

        Raises:
            ConfigError: there is none.
        """
        if (found := self._types.get(uses)) is not None:
            return found
        close = difflib.get_close_matches(uses, self._types, 1)
        hint = f"; did you mean {close[0]}?" if close else "; is its module in node_modules?"
        raise ConfigError("node types", [f"{uses}: no such node type{hint}"])

    def __contains__(self, uses: object) -> bool:
        return uses in self._types

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def specs(self) -> Mapping[str, NodeSpec]:
        """What validating a graph needs to know of each type."""
        return dict(CONTROLS) | {
            uses: NodeSpec(uses=uses, inputs=kind.inputs, retry=kind.retry, timeout=kind.timeout, pure=kind.pure)
            for uses, kind in self._types.items()
        }


def _marked(module: ModuleType) -> list[Callable[..., Any]]:
    return [value for value in vars(module).values() if inspect.isfunction(value) and hasattr(value, _MARK)]


def _add(types: dict[str, NodeType], function: Callable[..., Any], faults: list[str]) -> None:
    uses = getattr(function, _MARK).uses
    if uses in CONTROLS:
        faults.append(f"{uses}: expected a name of its own, got that of a node type that the engine carries out itself")
        return
    where = f"{function.__module__}.{function.__qualname__}"
    taken = types.get(uses)
    if taken is not None:
        if taken.function is not function:  # the same one may well be imported by two modules
            faults.append(f"{uses}: expected one function, got {taken.module}.{taken.qualname} and {where}")
        return
    try:
        types[uses] = node_type(function)
    except ValueError as error:
        faults.append(f"{uses} ({where}): {error}")
