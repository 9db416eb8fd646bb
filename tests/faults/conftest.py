"""A system for each test, in a directory that root's PostgreSQL never has to enter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from executor.cli.embedded import EmbeddedPostgres, EmbeddedRedis, scratch
from migrations.run import upgrade_async
from tests.system import System


@pytest.fixture
async def system(tmp_path: Path, database_url: str, redis_urls: tuple[str, str]) -> AsyncIterator[System]:
    async with System(tmp_path, database_url, redis_urls) as made:
        yield made


@pytest.fixture
async def fragile(tmp_path: Path) -> AsyncIterator[tuple[System, EmbeddedPostgres, EmbeddedRedis]]:
    """A system on servers of its own, which a test may stop."""
    with scratch() as directory:
        postgres, server = (
            EmbeddedPostgres(directory / "postgres"),
            EmbeddedRedis(directory / "redis", persist=False),
        )
        try:
            await asyncio.to_thread(postgres.start)
            await asyncio.to_thread(server.start)
            admin = await asyncpg.connect(postgres.url)
            await admin.execute("CREATE DATABASE headrace")
            await admin.close()
            await upgrade_async(postgres.database_url("headrace"))
            urls = (server.database_url(0), server.database_url(1))
            async with System(tmp_path, postgres.database_url("headrace"), urls) as system:
                yield system, postgres, server
        finally:
            server.kill()
            postgres.stop("immediate")
