"""The sources as this process knows them, by slug, compiled once.

A background loop asks for the epoch once a second. A slug that is not known asks at once, but all who ask
share one question, at most four a second: a source that was just applied works at its first delivery, and a
scan of made-up slugs costs the database nothing to speak of. With a memory (the spool), a process that starts while
PostgreSQL is away serves the sources that it knew last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
import structlog

from events import definitions
from events.database import Database
from events.definitions import SourceRow
from events.errors import ConfigError, HeadraceError, Unavailable
from events.secretbox import SecretBox
from ingest.compiled import CompiledSource, compile_source
from ingest.definition import SourceDefinition
from ingest.rates import Bucket, Buckets
from ingest.remembered import Memory, recall_sources, remember_sources

POLL = 1.0
"""Seconds between two looks at the epoch."""
ASK = 0.25
"""Seconds between two looks on behalf of unknown slugs."""
PATIENCE = 2.0
"""Seconds that a request for an unknown slug waits for a look."""

_log = structlog.get_logger(__name__)


class Source(msgspec.Struct, frozen=True):
    """A source ready to receive; with a `fault`, one that this process cannot serve."""

    id: int
    workspace_id: int
    slug: str
    compiled: CompiledSource
    fault: str | None = None
    bucket: Bucket | None = None
    """How often it may be used; None: as often as anybody likes."""


class Catalogue:
    """All sources.

    Args:
        secrets: opens the sealed secrets; None when no key is configured: sources with secrets then refuse
        everything.
        memory: keeps the sources for a start without PostgreSQL.
        compile: makes a source ready for requests, as `compile_source` does.
    """

    def __init__(
        self,
        database: Database,
        secrets: SecretBox | None,
        memory: Memory | None = None,
        compile: Callable[[SourceDefinition, list[bytes]], CompiledSource] = compile_source,
    ) -> None:
        self._compiled = compile
        self._buckets = Buckets()
        self._database = database
        self._secrets = secrets
        self._memory = memory
        self._sources = {row.slug: self._compile(row) for row in recall_sources(memory)} if memory else {}
        self._unkept: list[SourceRow] | None = None  # what the memory does not hold yet
        self._epoch = -1
        self._answered = False  # whether the last question was
        self._asked_at = 0.0
        self._asking: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether the sources are known here, from the database or from memory."""
        return bool(self._sources) or self._epoch != -1

    def known(self, slug: str) -> Source | None:
        """The source, if this process knows it already."""
        return self._sources.get(slug)

    async def find(self, slug: str) -> Source | None:
        """The source, after asking the database where that is due.

        Raises:
            Unavailable: it is not known here, and the database cannot be asked whether it is one.
        """
        found = self.known(slug)
        if found is None and time.monotonic() - self._asked_at >= ASK:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            await asyncio.wait({self._asking}, timeout=PATIENCE)
            if not self._asking.done():
                raise Unavailable("PostgreSQL does not answer whether this is a source")
            self._asking.result()
            found = self.known(slug)
        if found is None and not self._answered:
            raise Unavailable("PostgreSQL cannot be asked for this source now")
        return found

    async def _ask(self) -> None:
        try:
            await self.refresh()
            self._answered = True
        except HeadraceError as error:
            self._answered = False
            _log.warning("catalogue.not_refreshed", error=str(error))
        self._asked_at = time.monotonic()

    async def refresh(self) -> None:
        """Reads the sources if anything was applied since.

        Raises:
            Unavailable: the database cannot be asked now.
        """
        epoch = await definitions.epoch(self._database)
        if epoch != self._epoch:
            rows = await definitions.sources(self._database)
            self._sources = {row.slug: self._compile(row) for row in rows}
            self._buckets.keep([row.id for row in rows])
            self._epoch = epoch
            self._unkept = rows

    async def follow(self) -> None:
        """Refreshes every second until cancelled."""
        while True:
            try:
                await self._ask()
                await self._remember()
            except Exception:  # whatever it is, the sources that are known go on being served, and are looked at again
                _log.exception("catalogue.not_followed")
            await asyncio.sleep(POLL)

    async def _remember(self) -> None:
        if self._memory is not None and self._unkept is not None:
            try:
                await remember_sources(self._memory, self._unkept)
                self._unkept = None
            except HeadraceError as error:
                _log.warning("catalogue.not_remembered", error=str(error))

    def _compile(self, row: SourceRow) -> Source:
        """What cannot be read here stops its neighbours from nothing, and refuses nobody: it is our fault, a 503."""
        fault = None
        definition = SourceDefinition(source=row.slug, preset="none")
        opened: list[bytes] = []
        try:
            definition = msgspec.convert(row.definition, SourceDefinition)
            if row.secrets and self._secrets is None:
                raise ConfigError(row.slug, ["secret_key: expected the key of the sources' secrets, got nothing"])
            opened = [self._secrets.open(sealed, f"source/{row.id}") for sealed in row.secrets if self._secrets]
        except (msgspec.ValidationError, HeadraceError) as error:
            fault = str(error)
            _log.error("source.unusable", source=row.slug, error=fault)
        rate = definition.rate
        bucket = self._buckets.get(row.id, rate.limit, rate.per, rate.burst) if rate is not None else None
        return Source(row.id, row.workspace_id, row.slug, self._compiled(definition, opened), fault, bucket)
