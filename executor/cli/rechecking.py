"""How refused requests are checked again and admitted, one after another, oldest first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Literal, assert_never
from uuid import UUID

import msgspec

from events import definitions, faults
from events import rejected as store
from events.database import Database
from events.definitions import SourceRow
from events.deliveries import DeliveryWriter
from events.errors import BadRow, ConfigError, Unavailable
from events.rejected import KeptRejection
from events.secretbox import SecretBox
from events.settings import Settings
from events.types import DELIVERY_QUEUE, Accepted, Duplicate
from executor.cli.acting import actor, ring
from ingest.catalogue import Source
from ingest.certificates import Certificates
from ingest.recheck import Reopened, no_delivery, receipt_of, received_at, reopened
from ingest.sources import SourceDefinition, compile_source
from ingest.verify.base import Incoming, Refused, Verification, Verified, Wanted, of_either


class Rechecked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one refused request.

    Args:
        delivery: the delivery that it became, or, for a duplicate, that is in the log already; None in a dry run.
        reason: why it is still refused.
        earlier: it was admitted before this command, which did nothing with it.
    """

    id: UUID
    source: str | None
    result: Literal["admitted", "duplicate", "refused"]
    delivery: UUID | None = None
    reason: str | None = None
    earlier: bool = False


async def recheck_all(database: Database, settings: Settings, ids: Sequence[UUID], *, dry_run: bool) -> list[Rechecked]:
    """Checks these requests by their sources as they are now, and admits those that pass; one result each.

    Args:
        database: opened as operator.
        dry_run: nothing is admitted and nothing is noted.
    """
    box = SecretBox(settings.secret_key) if settings.secret_key else None
    async with contextlib.AsyncExitStack() as stack:
        certificates = Certificates()
        stack.push_async_callback(certificates.close)
        rows = await definitions.sources(database)
        sources = {row.id: compiled_source(row, box, settings, certificates) for row in rows}
        rechecking = _Rechecking(database, box, sources, certificates, dry_run=dry_run, limit=settings.body_limit)
        results = [result for id in ids if (result := await rechecking.one(id)) is not None]
    if rechecking.appended:
        await asyncio.to_thread(ring, settings.redis_url, DELIVERY_QUEUE)
    return results


def compiled_source(
    row: SourceRow, box: SecretBox | None, settings: Settings, certificates: Certificates
) -> Source | Refused:
    """The source as ingest compiles it; Refused where ingest could not serve it either."""
    try:
        definition = msgspec.convert(row.definition, SourceDefinition)
        if row.secrets and box is None:
            raise ConfigError(row.slug, ["secret_key: expected the key of the sources' secrets, got nothing"])
        opened = [box.open(sealed, row.context) for sealed in row.secrets if box is not None]
    except (msgspec.ValidationError, ConfigError) as error:
        return Refused(f"the source cannot be served: {error}")
    compiled = compile_source(definition, opened, public_url=settings.public_url, certificates=certificates)
    return Source(row.id, row.workspace_id, row.slug, compiled)


class _Rechecking:
    """One run of the command. `appended`: how many deliveries were."""

    def __init__(
        self,
        database: Database,
        box: SecretBox | None,
        sources: dict[int, Source | Refused],
        certificates: Certificates,
        *,
        dry_run: bool,
        limit: int,
    ) -> None:
        self._database = database
        self._box = box
        self._sources = sources
        self._certificates = certificates
        self._dry_run = dry_run
        self._limit = limit
        self._writer = DeliveryWriter(database)
        self.appended = 0

    async def one(self, id: UUID) -> Rechecked | None:
        """Checks one request; None if it was deleted meanwhile."""
        kept = await store.rejection(self._database, id)
        if kept is None:
            return None
        if kept.admitted_as is not None:  # by an earlier command
            result: Literal["admitted", "duplicate"] = "admitted" if kept.by_staff else "duplicate"
            return Rechecked(id=id, source=kept.source, result=result, delivery=kept.admitted_as, earlier=True)
        source = self._sources.get(kept.source_id, Refused("its source does not exist any more"))
        request = reopened(kept, self._box, self._limit)
        for refused in (source, request):
            if isinstance(refused, Refused):
                return _still(kept, refused)
        assert isinstance(source, Source)
        assert isinstance(request, Reopened)
        return await self._judged(source, kept, request)

    async def _judged(self, source: Source, kept: KeptRejection, request: Reopened) -> Rechecked:
        verdict = await self._verified(source, request.plain, received_at(kept))
        if isinstance(verdict, Refused) and request.plain is not request.incoming:
            verdict = of_either(verdict, await self._verified(source, request.incoming, received_at(kept)))
        match verdict:
            case Refused() as refused:
                return _still(kept, refused)
            case Wanted(url):
                return _still(kept, Refused(f"the certificate at {url} cannot be had"))
            case Verified() as verified:
                greeting = no_delivery(source, request.plain, received_at(kept))
                if greeting is not None:
                    return _still(kept, greeting)
                return await self._admit(source, kept, request, verified)
            case impossible:
                assert_never(impossible)

    async def _verified(self, source: Source, incoming: Incoming, at: float) -> Verification:
        verdict = source.compiled.verify(incoming, at)
        if isinstance(verdict, Wanted):
            with contextlib.suppress(Unavailable):
                await self._certificates.fetch(verdict.url)
                return source.compiled.verify(incoming, at)
        return verdict

    async def _admit(self, source: Source, kept: KeptRejection, request: Reopened, verified: Verified) -> Rechecked:
        receipt = receipt_of(source, kept, request, verified, by=actor(), now=self._database.clock.now())
        if self._dry_run:
            first = await store.first_delivery(self._database, kept.source_id, receipt.key)
            result: Literal["admitted", "duplicate"] = "admitted" if first is None else "duplicate"
            return Rechecked(id=kept.id, source=kept.source, result=result, delivery=first)
        try:
            (appended,) = await self._writer.write([receipt])
        except BadRow as error:
            return _still(kept, Refused(f"the log does not take it: {error}"))
        faults.point("rejected.appended")
        match appended:
            case Accepted(delivery):
                self.appended += 1
            case Duplicate(delivery):
                pass
            case impossible:
                assert_never(impossible)
        ours = await store.admitted(self._database, kept.id, delivery)
        return Rechecked(id=kept.id, source=kept.source, result="admitted" if ours else "duplicate", delivery=delivery)


def _still(kept: KeptRejection, refused: Refused) -> Rechecked:
    return Rechecked(id=kept.id, source=kept.source, result="refused", reason=refused.reason)
