"""Hearing what others say to the runs that are held here: one question for all of them, a few times a second.

A run that sleeps is woken by its work item; one that is held is told here. That is how a cancellation reaches a node
while it runs. Nothing is lost if the question fails: a run reads its inbox again before it lets go.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from events.database import Database
from events.errors import HeadraceError
from events.inbox import signals
from executor.engine.held import Held
from executor.engine.store import RunStore
from executor.workflow.signals import Cancel

EVERY = 0.4
"""Seconds between two questions."""

_log = structlog.get_logger(__name__)


class Listening:
    """The runs that are held here, by id."""

    def __init__(self, database: Database, store: RunStore) -> None:
        self._database = database
        self._store = store
        self._held: dict[UUID, Held] = {}

    def begin(self, run: Held) -> None:
        """From now on the run is told what comes."""
        self._held[run.id] = run

    def end(self, run: Held) -> None:
        """The run is let go. It may be held anew already, under another token."""
        if self._held.get(run.id) is run:
            del self._held[run.id]

    async def keep(self) -> None:
        """Asks until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.ask()
            except HeadraceError as error:
                _log.warning("inbox.not_asked", held=len(self._held), error=str(error))
            except Exception:
                _log.exception("inbox.not_asked", held=len(self._held))

    async def ask(self) -> None:
        """Tells every run whose inbox has something new."""
        if not self._held:
            return
        for id, seq in (await signals(self._database, list(self._held))).items():
            run = self._held.get(id)
            if run is None or seq <= run.signal:
                continue
            rows = await self._store.inbox(id, run.state.inbox)
            run.ring(seq, cancel=any(isinstance(row.signal, Cancel) for row in rows))
