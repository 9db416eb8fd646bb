"""Headrace's executor. What users write nodes with, in one place:

    from executor import NodeContext, NodeError, Retry, node

The names are loaded when they are first asked for, so that `import executor.workflow.…` stays pure and a
command that runs no node pays for none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from executor.engine.context import Endpoint as Endpoint
    from executor.engine.context import NodeContext as NodeContext
    from executor.engine.registry import node as node
    from executor.workflow.backoff import Backoff as Backoff
    from executor.workflow.graph import Retry as Retry
    from executor.workflow.outcomes import NodeDeferral as NodeDeferral
    from executor.workflow.outcomes import NodeError as NodeError

_HOMES = {
    "Backoff": "executor.workflow.backoff",
    "Endpoint": "executor.engine.context",
    "NodeContext": "executor.engine.context",
    "NodeDeferral": "executor.workflow.outcomes",
    "NodeError": "executor.workflow.outcomes",
    "Retry": "executor.workflow.graph",
    "node": "executor.engine.registry",
}

__all__ = ["Backoff", "Endpoint", "NodeContext", "NodeDeferral", "NodeError", "Retry", "node"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'executor' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
