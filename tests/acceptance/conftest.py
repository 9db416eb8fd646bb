"""A system for each test, in a directory that root's PostgreSQL never has to enter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.system import System


@pytest.fixture
async def system(tmp_path: Path, database_url: str, redis_urls: tuple[str, str]) -> AsyncIterator[System]:
    async with System(tmp_path, database_url, redis_urls) as made:
        yield made
