"""Fixtures that every test may use. Where the services come from: `tests.services`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.services import Services, describe_payloads
from tests.services import github_payloads as load_github_payloads

_SERVICES = pytest.StashKey[Services]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SERVICES] = Services(os.environ)


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"services: {config.stash[_SERVICES].describe()}"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    services = config.stash[_SERVICES]
    terminalreporter.section("tested against")
    terminalreporter.line(f"services: {services.describe()}")
    terminalreporter.line(f"payloads: {describe_payloads(services.data)}")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """As in production: asyncio on uvloop."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def services(pytestconfig: pytest.Config) -> Iterator[Services]:
    """The PostgreSQL and Redis of this session."""
    services = pytestconfig.stash[_SERVICES]
    yield services
    services.close()


@pytest.fixture
def database_url(services: Services) -> Iterator[str]:
    """A fresh database with the whole schema, as superuser."""
    with services.database() as url:
        yield url


@pytest.fixture
def redis_urls(services: Services) -> tuple[str, str]:
    """Two empty Redis databases: the broker's and the snapshots'."""
    return services.redis_database(), services.redis_database()


@pytest.fixture(scope="session")
def github_payloads(pytestconfig: pytest.Config) -> list[tuple[str, bytes]]:
    """(event, body) of many GitHub webhooks; fewer without the real collection, which the summary says."""
    return load_github_payloads(pytestconfig.stash[_SERVICES].data)
