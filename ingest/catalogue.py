"""The sources as this process knows them, by slug, compiled once.

A background loop asks for the epoch once a second. A slug that is not known asks at once, but all who ask
share one question, at most four a second: a source that was just applied works at its first delivery, and a
scan of made-up slugs costs the database nothing to speak of.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from events import definitions
from events.database import Database
from events.definitions import SourceRow
from events.errors import HeadraceError, Unavailable
from events.secretbox import SecretBox
from ingest.sources import CompiledSource, SourceDefinition, compile_source

POLL = 1.0
"""Seconds between two looks at the epoch."""
ASK = 0.25
"""Seconds between two looks on behalf of unknown slugs."""

_log = structlog.get_logger(__name__)


class Source(msgspec.Struct, frozen=True):
    """A source ready to receive."""

    id: int
    workspace_id: int
    slug: str
    compiled: CompiledSource


class Catalogue:
    """All sources.

    Args:
        secrets: opens the sealed secrets; None when no key is configured: sources with secrets then refuse
        everything.
    """

    def __init__(self, database: Database, secrets: SecretBox | None) -> None:
        self._database = database
        self._secrets = secrets
        self._sources: dict[str, Source] | None = None
        self._epoch = -1
        self._asked_at = 0.0
        self._asking: asyncio.Task[None] | None = None

    def known(self, slug: str) -> Source | None:
        """The source, if this process knows it already."""
        return self._sources.get(slug) if self._sources is not None else None

    async def find(self, slug: str) -> Source | None:
        """The source, after asking the database where that is due.

        Raises:
            Unavailable: the sources were never read, so that nobody can say whether this is one of them.
        """
        found = self.known(slug)
        if found is None and time.monotonic() - self._asked_at >= ASK:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            await asyncio.shield(self._asking)
            found = self.known(slug)
        if self._sources is None:
            raise Unavailable("the sources could not be read from PostgreSQL yet")
        return found

    async def _ask(self) -> None:
        try:
            await self.refresh()
        except HeadraceError as error:
            _log.warning("catalogue.not_refreshed", error=str(error))
        self._asked_at = time.monotonic()

    async def refresh(self) -> None:
        """Reads the sources if anything was applied since.

        Raises:
            Unavailable: the database cannot be asked now.
        """
        epoch = await definitions.epoch(self._database)
        if epoch != self._epoch:
            self._sources = {row.slug: self._compile(row) for row in await definitions.sources(self._database)}
            self._epoch = epoch

    async def follow(self) -> None:
        """Refreshes every second until cancelled."""
        while True:
            await self._ask()
            await asyncio.sleep(POLL)

    def _compile(self, row: SourceRow) -> Source:
        try:
            definition = msgspec.convert(row.definition, SourceDefinition)
        except msgspec.ValidationError as error:
            # Applied by another version. It refuses everything until that is mended; its neighbours go on.
            _log.error("source.unreadable", source=row.slug, error=str(error))
            definition = SourceDefinition(source=row.slug, preset="unreadable")
        opened: list[bytes] = []
        for sealed in row.secrets:
            try:
                key = f"source/{row.id}"
                opened.append(b"" if self._secrets is None else self._secrets.open(sealed, key))
            except HeadraceError as error:
                _log.error("source.secret_unreadable", source=row.slug, error=str(error))
                opened.append(b"")  # matches nothing, and keeps the others' places
        return Source(row.id, row.workspace_id, row.slug, compile_source(definition, opened))
