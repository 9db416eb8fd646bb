"""Fixtures of the vendors' contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vendors.nodes import Judge, start


@pytest.fixture(scope="session")
def node() -> Iterator[Judge]:
    """The SDKs that exist for Node only."""
    with start() as process:
        yield Judge(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0
