"""A run in this process, as everything that works on it sees it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from executor.workflow.graph import Graph
from executor.workflow.state import RunState


class Held(msgspec.Struct):
    """A run that this process holds.

    Args:
        token: the fence: as long as it is current, nobody else writes to the run.
        state: the fold of what was noted; the driver alone changes it.
        scope: the values that expressions may name (`executor.engine.scope`).
        traceparent: the trace that its nodes belong to.
    """

    id: UUID
    token: int
    graph: Graph
    state: RunState
    scope: dict[str, Any]
    traceparent: str | None = None
