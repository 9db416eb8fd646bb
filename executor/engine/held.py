"""A run in this process, as everything that works on it sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from executor.engine.scope_run import Scopes
from executor.workflow.graph import Graph
from executor.workflow.state import RunState


class Held(msgspec.Struct):
    """A run that this process holds.

    Args:
        token: the fence: as long as it is current, nobody else writes to the run.
        state: the fold of what was noted; the driver alone changes it.
        scopes: the values that expressions may name (`executor.engine.scope_run`).
        traceparent: the trace that its nodes belong to.
        sure: whether nobody else can have claimed it by now (`executor.engine.leases`).
    """

    id: UUID
    token: int
    graph: Graph
    state: RunState
    scopes: Scopes
    traceparent: str | None = None
    signal: int = 0
    """The newest row of the inbox that is known of."""
    flying: set[asyncio.Task[Any]] = msgspec.field(default_factory=set)
    """The calls of its nodes that can be cancelled alone."""
    bell: asyncio.Future[None] | None = None
    sure: Callable[[], bool] = lambda: True
    workspace_id: int = 1

    def listen(self) -> asyncio.Future[None]:
        """Done as soon as there is a newer row in the inbox than those that were read."""
        if self.bell is None or self.bell.done():
            self.bell = asyncio.get_running_loop().create_future()
            if self.signal > self.state.inbox:
                self.bell.set_result(None)
        return self.bell

    def ring(self, seq: int, *, cancel: bool) -> None:
        """There is a newer row in the inbox. `cancel`: it asks for the run's end, so nodes in flight are cancelled."""
        self.signal = max(self.signal, seq)
        if self.bell is not None and not self.bell.done():
            self.bell.set_result(None)
        if cancel:
            for task in self.flying:
                task.cancel()
