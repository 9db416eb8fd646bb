"""Sources, endpoints and workflows as they stand in the database, and the epoch that tells whether they changed.

All of one `apply` is one transaction, and raises the epoch by one: a process sees all of it or nothing. One is under
way at a time. Every workflow version ever applied stays, because runs pin their version's hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from events import schedules, tables
from events.database import Database, translated
from events.errors import ConfigError
from events.schedules import ScheduleRow
from events.secretbox import SecretBox
from events.waits import WaitExpression

DEFAULT_WORKSPACE = 1
_CURRENT = """
SELECT w.workspace_id, w.name, w.hash, v.document FROM workflow w JOIN workflow_version v USING (hash, workspace_id)
"""


class SourceRow(msgspec.Struct, frozen=True):
    """A source: its definition (JSON-like, without secrets) and its sealed secrets."""

    id: int
    workspace_id: int
    slug: str
    definition: dict[str, Any]
    secrets: tuple[bytes, ...]

    @property
    def context(self) -> str:
        """What its secrets are sealed for."""
        return f"source/{self.id}"


class WorkflowRow(msgspec.Struct, frozen=True):
    """One version of a workflow: 32 bytes of content hash, and the document."""

    workspace_id: int
    name: str
    hash: bytes
    document: dict[str, Any]


class EndpointRow(msgspec.Struct, frozen=True):
    """Where `webhook.deliver` sends to; `secret` is sealed."""

    name: str
    url: str
    secret: bytes | None
    workspace_id: int = DEFAULT_WORKSPACE

    @property
    def context(self) -> str:
        """What its secret is sealed for."""
        return endpoint_context(self.name, self.workspace_id)


def endpoint_context(name: str, workspace_id: int) -> str:
    """What the secret of an endpoint is sealed for. The default workspace's are older than workspaces."""
    return f"endpoint/{name}" if workspace_id == DEFAULT_WORKSPACE else f"endpoint/{workspace_id}/{name}"


async def epoch(database: Database) -> int:
    """Rises with every apply."""
    return int(await database.fetchval("SELECT epoch FROM config"))


async def sources(database: Database, workspace_id: int | None = None) -> list[SourceRow]:
    """All sources, or those of one workspace."""
    rows = await database.fetch(
        "SELECT id, workspace_id, slug, definition, secrets FROM source WHERE $1::int IS NULL OR workspace_id = $1",
        workspace_id,
    )
    return [
        SourceRow(
            row["id"],
            row["workspace_id"],
            row["slug"],
            msgspec.json.decode(row["definition"]),
            tuple(row["secrets"]),
        )
        for row in rows
    ]


async def workflows(database: Database, workspace_id: int | None = None) -> list[WorkflowRow]:
    """The current version of every workflow, or of those of one workspace."""
    rows = await database.fetch(
        f"{_CURRENT} WHERE $1::int IS NULL OR w.workspace_id = $1",
        workspace_id,
    )
    return [WorkflowRow(row[0], row[1], row[2], msgspec.json.decode(row[3])) for row in rows]


async def workflow(database: Database, name: str, workspace_id: int = DEFAULT_WORKSPACE) -> WorkflowRow | None:
    """The current version of one workflow of a workspace."""
    rows = await database.fetch(
        f"{_CURRENT} WHERE w.workspace_id = $1 AND w.name = $2",
        workspace_id,
        name,
    )
    return WorkflowRow(rows[0][0], rows[0][1], rows[0][2], msgspec.json.decode(rows[0][3])) if rows else None


async def workflow_version(database: Database, hash: bytes) -> WorkflowRow | None:
    """Any version ever applied, by its hash."""
    rows = await database.fetch(
        "SELECT workspace_id, name, hash, document FROM workflow_version WHERE hash = $1 LIMIT 1", hash
    )
    return WorkflowRow(rows[0][0], rows[0][1], rows[0][2], msgspec.json.decode(rows[0][3])) if rows else None


class VersionRow(msgspec.Struct, frozen=True):
    """A version of a workflow in lists: when it was first applied, and whether it is the current one.

    `open`: how many runs of it have not ended.
    """

    hash: bytes
    applied_at: float
    current: bool
    open: int


async def versions(database: Database, name: str, workspace_id: int = DEFAULT_WORKSPACE) -> list[VersionRow]:
    """All versions of a workflow of a workspace that were ever applied, the newest first."""
    rows = await database.fetch(
        "SELECT v.hash, extract(epoch FROM v.applied_at)::float8, w.hash IS NOT NULL, (SELECT count(*) FROM run r"
        " JOIN work_item i ON i.id = r.id WHERE r.workflow_hash = v.hash AND r.workspace_id = v.workspace_id) "
        "FROM workflow_version v LEFT JOIN workflow w ON w.hash = v.hash AND w.workspace_id = v.workspace_id "
        "WHERE v.workspace_id = $1 AND v.name = $2 ORDER BY v.applied_at DESC, v.hash",
        workspace_id,
        name,
    )
    return [VersionRow(*row) for row in rows]


async def endpoint(database: Database, name: str, workspace_id: int = DEFAULT_WORKSPACE) -> EndpointRow | None:
    """An endpoint of a workspace by its name."""
    rows = await database.fetch(
        "SELECT name, url, secret, workspace_id FROM endpoint WHERE workspace_id = $1 AND name = $2",
        workspace_id,
        name,
    )
    return EndpointRow(*rows[0]) if rows else None


async def endpoints(database: Database) -> list[EndpointRow]:
    """All endpoints."""
    return [EndpointRow(*row) for row in await database.fetch("SELECT name, url, secret, workspace_id FROM endpoint")]


class Change(msgspec.Struct, frozen=True):
    """What one `apply` did to one definition.

    Args:
        what: added | changed | unchanged | resealed: the same secrets, sealed by the newest key.
    """

    kind: str
    name: str
    what: str


class Applying:
    """One transaction of definitions of one workspace. Use as an async context manager; leaving it normally commits."""

    def __init__(self, database: Database, workspace_id: int = DEFAULT_WORKSPACE) -> None:
        self.workspace_id = workspace_id
        self._begin = database.engine.begin()
        self.changes: list[Change] = []

    async def __aenter__(self) -> Applying:
        with translated():
            self._connection: AsyncConnection = await self._begin.__aenter__()
            await self._connection.execute(select(tables.config.c.epoch).with_for_update())  # one after another
        return self

    async def __aexit__(self, *failure: Any) -> None:
        if failure[0] is None and any(change.what != "unchanged" for change in self.changes):
            await self._connection.execute(update(tables.config).values(epoch=tables.config.c.epoch + 1))
        await self._begin.__aexit__(*failure)

    async def source_id(self, slug: str) -> int:
        """The id a source has or, when it is new, gets: a secret is sealed for it before it is stored.

        Raises:
            ConfigError: it is another workspace's. Slugs are addresses, so that all workspaces share them.
        """
        table = tables.source
        query = select(table.c.id, table.c.workspace_id).where(table.c.slug == slug)
        found = (await self._connection.execute(query)).one_or_none()
        if found is None:
            statement = insert(table).values(workspace_id=self.workspace_id, slug=slug, definition={}, secrets=[])
            return int(await self._connection.scalar(statement.returning(table.c.id)) or 0)
        if found.workspace_id != self.workspace_id:
            raise ConfigError(
                f"source {slug}", ["source: expected a name that is free, got that of a source elsewhere"]
            )
        return int(found.id)

    async def source(
        self, id: int, slug: str, definition: dict[str, Any], sealed: list[bytes], *, same_secrets: bool
    ) -> None:
        """Stores a source. `same_secrets`: the stored ones open to the same values."""
        stored = (await self._connection.execute(select(tables.source).where(tables.source.c.id == id))).one()
        what = "added" if not stored.definition else "changed"
        if stored.definition == definition and same_secrets:
            what = "unchanged" if stored.secrets == sealed else "resealed"
        if what != "unchanged":
            values = {"definition": definition, "secrets": sealed}
            await self._connection.execute(update(tables.source).where(tables.source.c.id == id).values(**values))
        self.changes.append(Change("source", slug, what))

    async def workflow_hash(self, name: str) -> bytes | None:
        """The current version of a workflow, which nobody else changes until this is over."""
        table = tables.workflow
        own = (table.c.workspace_id == self.workspace_id) & (table.c.name == name)
        found: bytes | None = await self._connection.scalar(select(table.c.hash).where(own))
        return found

    async def stored_secrets(self, id: int) -> list[bytes]:
        """A source's sealed secrets as they stand."""
        return list(
            await self._connection.scalar(select(tables.source.c.secrets).where(tables.source.c.id == id)) or []
        )

    async def stored_endpoint(self, name: str) -> EndpointRow | None:
        """An endpoint as it stands."""
        table = tables.endpoint
        own = (table.c.workspace_id == self.workspace_id) & (table.c.name == name)
        query = select(table.c.name, table.c.url, table.c.secret, table.c.workspace_id).where(own)
        row = (await self._connection.execute(query)).one_or_none()
        return EndpointRow(*row) if row is not None else None

    async def endpoint(
        self, name: str, url: str, sealed: bytes | None, stored: EndpointRow | None, *, same_secret: bool
    ) -> None:
        """Stores an endpoint. `stored` is how it stands; `same_secret`: its secret opens to the same value."""
        if stored == EndpointRow(name, url, sealed, self.workspace_id):
            self.changes.append(Change("endpoint", name, "unchanged"))
            return
        statement = insert(tables.endpoint).values(workspace_id=self.workspace_id, name=name, url=url, secret=sealed)
        changed = {"url": statement.excluded.url, "secret": statement.excluded.secret}
        await self._connection.execute(
            statement.on_conflict_do_update(index_elements=["workspace_id", "name"], set_=changed)
        )
        resealed = stored is not None and stored.url == url and same_secret
        self.changes.append(Change("endpoint", name, "resealed" if resealed else "changed" if stored else "added"))

    async def workflow(
        self,
        name: str,
        hash: bytes,
        document: dict[str, Any],
        expressions: Sequence[WaitExpression] = (),
        scheduled: Sequence[ScheduleRow] = (),
    ) -> None:
        """Stores a workflow's version, which is current from now on.

        Args:
            expressions: by what waits find deliveries.
            scheduled: its schedules from now on; one that stands there already keeps its time.
        """
        for row in expressions:
            found = insert(tables.wait_expression).values(msgspec.structs.asdict(row))
            await self._connection.execute(found.on_conflict_do_nothing())
        current = await self.workflow_hash(name)
        version = insert(tables.workflow_version).values(
            workspace_id=self.workspace_id, name=name, hash=hash, document=document
        )
        await self._connection.execute(version.on_conflict_do_nothing())
        head = insert(tables.workflow).values(workspace_id=self.workspace_id, name=name, hash=hash)
        await self._connection.execute(
            head.on_conflict_do_update(index_elements=["workspace_id", "name"], set_={"hash": head.excluded.hash})
        )
        await schedules.store(self._connection, self.workspace_id, name, scheduled)
        what = "added" if current is None else "unchanged" if current == hash else "changed"
        self.changes.append(Change("workflow", name, what))

    async def wait_expression(self, source: str, expression: bytes, text: str) -> None:
        """Has every delivery of a source asked for what an expression gives; for ever, as versions stay for ever."""
        statement = insert(tables.wait_expression).values(source=source, expression=expression, text=text)
        await self._connection.execute(statement.on_conflict_do_nothing())


async def reseal(database: Database, box: SecretBox) -> list[Change]:
    """Seals every secret of sources and endpoints by the newest key, whichever of `box`'s keys sealed it.

    One transaction, as an apply. What the newest key has sealed stays as it is, so that doing it again does nothing.
    Refused requests stay as they are sealed: they are gone soon.

    Raises:
        ConfigError: for every secret that no key opens; nothing was changed.
    """
    faults: dict[str, None] = {}  # those of one source's secrets are mostly the same

    def again(sealed: bytes, context: str, name: str) -> bytes:
        try:
            return sealed if box.current(sealed) else box.seal(box.open(sealed, context), context)
        except ConfigError as error:
            faults.update({f"{name}: {fault}": None for fault in error.faults})
            return sealed

    with translated():
        async with Applying(database) as applying:
            for source in await sources(database):
                sealed = [again(one, source.context, f"source {source.slug}") for one in source.secrets]
                await applying.source(source.id, source.slug, source.definition, sealed, same_secrets=True)
            for endpoint in await endpoints(database):
                new = None
                if endpoint.secret is not None:
                    new = again(endpoint.secret, endpoint.context, f"endpoint {endpoint.name}")
                applying.workspace_id = endpoint.workspace_id
                await applying.endpoint(endpoint.name, endpoint.url, new, endpoint, same_secret=True)
            if faults:
                raise ConfigError("secrets", list(faults))
    return applying.changes
