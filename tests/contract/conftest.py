"""Openings onto a fresh database for the contract tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from events.database import Database, Role
from tests.contract.world import World, world

Open = Callable[[Role], AbstractAsyncContextManager[Database]]


@pytest.fixture
def open_as(database_url: str) -> Open:
    """Opens the test's database in a role."""

    @contextlib.asynccontextmanager
    async def opened(role: Role) -> AsyncIterator[Database]:
        database = Database(database_url, role)
        await database.open()
        try:
            yield database
        finally:
            await database.close()

    return opened


@pytest.fixture
async def everyone(open_as: Open, database_url: str) -> AsyncIterator[World]:
    """Everybody who works on runs, on one fresh database."""
    async with world(open_as, database_url) as all_:
        yield all_


@pytest.fixture(scope="session")
def model_examples() -> int:
    """How many stories the model is told; `HEADRACE_TEST_EXAMPLES` says more."""
    return int(os.environ.pop("HEADRACE_TEST_EXAMPLES", "25"))
