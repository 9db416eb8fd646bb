"""A database seen by all who work on runs at once, and how tests look at what they did."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast
from uuid import UUID

import asyncpg

from events.database import Database, Role
from events.inbox import Message, Sent, send
from events.runs import Effect, Finish, Keep, NewEvent, NewRun, RunAppend, RunWriter, Status, Then, Yield
from events.work import WorkList
from tests.rows import start_run

FOREVER = Yield(math.inf)


class World:
    """Databases in each role, a worker's writer that notes whom it rings for, and a superuser who looks."""

    def __init__(self, ingest: Database, worker: Database, operator: Database, relay: Database, admin: Any) -> None:
        self.ingest, self.worker, self.operator, self.relay, self.admin = ingest, worker, operator, relay, admin
        self.rung: list[str] = []
        self.told: list[tuple[UUID, int]] = []
        self.writer = self.writer_on(worker)
        self.work = WorkList(worker, owner="me", lease=30.0)

    def writer_on(self, database: Database) -> RunWriter:
        writer = RunWriter(database, owner="me", lease=30.0)
        writer.ring = self.rung.append
        writer.told = lambda id, seq: self.told.append((id, seq))
        return writer

    async def run(self, queue: str = "webhook") -> UUID:
        """A run that is held with token 1."""
        return await start_run(self.ingest, self.worker, queue=queue)

    async def sleeping(self, queue: str = "webhook") -> UUID:
        """A run that waits to be told something; its token is 2."""
        id = await self.run(queue)
        assert await self.writer.append([step(id, then=FOREVER)]) == [True]
        return id

    async def ended(self, status: Status = "failed", queue: str = "webhook") -> UUID:
        """A run that has ended; its version is 1."""
        id = await self.run(queue)
        assert await self.writer.append([step(id, then=Finish(), status=status)]) == [True]
        return id

    async def say(self, id: UUID, type: str = "hello", body: bytes = b"{}") -> int:
        """Puts a row into the inbox of a run that is there; its seq."""
        (sent,) = await send(self.operator, [Message(id, type, body)])
        assert isinstance(sent, Sent)
        return sent.seq

    async def item(self, id: UUID) -> dict[str, Any] | None:
        """The work item: token, owner, signal, attempt, queue, and whether it is due."""
        row = await self.admin.fetchrow(
            "SELECT token, owner, signal, attempt, queue, due_at <= clock_timestamp() AS due, "
            "due_at = 'infinity' AS never FROM work_item WHERE id = $1",
            id,
        )
        return dict(row) if row else None

    async def due(self, id: UUID) -> bool:
        item = await self.item(id)
        return item is not None and bool(item["due"])

    async def inbox(self, id: UUID) -> list[tuple[int, str]]:
        rows = await self.admin.fetch("SELECT seq, type FROM inbox WHERE stream_id = $1 ORDER BY seq", id)
        return [(row[0], row[1]) for row in rows]

    async def head(self, id: UUID) -> dict[str, Any] | None:
        row = await self.admin.fetchrow("SELECT * FROM run WHERE id = $1", id)
        return dict(row) if row else None

    async def events(self, id: UUID) -> list[tuple[int, str]]:
        rows = await self.admin.fetch("SELECT version, type FROM event WHERE stream_id = $1 ORDER BY version", id)
        return [(row[0], row[1]) for row in rows]

    async def subscribed(self, id: UUID) -> set[str]:
        rows = await self.admin.fetch("SELECT node FROM subscription WHERE run_id = $1", id)
        return {row[0] for row in rows}

    async def count(self, table: str) -> int:
        return int(await self.admin.fetchval(f"SELECT count(*) FROM {table}"))

    async def someone_waits(self) -> None:
        """Returns once a statement waits for another's lock, in this database."""
        async with asyncio.timeout(20):
            while not await self.admin.fetchval(
                "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
                "WHERE NOT l.granted AND a.datname = current_database()"
            ):
                pass


@contextlib.asynccontextmanager
async def world(open_as: Callable[[Role], AbstractAsyncContextManager[Database]], url: str) -> AsyncIterator[World]:
    """Everybody at once."""
    async with (
        open_as("ingest") as ingest,
        open_as("worker") as worker,
        open_as("operator") as operator,
        open_as("relay") as relay,
    ):
        admin = await asyncpg.connect(url)
        try:
            yield World(ingest, worker, operator, relay, admin)
        finally:
            await admin.close()


@contextlib.asynccontextmanager
async def uncommitted(database: Database) -> AsyncIterator[Database]:
    """The database for statements of one transaction, which commits at the end."""
    async with database.connection() as connection, connection.transaction():

        class Inside:
            fetch = staticmethod(connection.fetch)
            fetchval = staticmethod(connection.fetchval)

        yield cast(Database, Inside())


def step(
    id: UUID,
    token: int = 1,
    version: int = 1,
    then: Then | None = None,
    *,
    status: Status = "running",
    inbox: int = 0,
    effects: tuple[Effect, ...] = (),
) -> RunAppend:
    """An append of one event."""
    events = (NewEvent(version, "node.completed", b"{}"),)
    return RunAppend(id, token, version, status, events, then or Keep(), inbox=inbox, effects=effects)


def child(id: UUID, *, queue: str = "default", leased: bool = False) -> NewRun:
    return NewRun(id, "child", b"hash", queue, b'{"a":1}', leased)
