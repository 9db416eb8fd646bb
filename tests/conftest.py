"""Fixtures that every test may use. Where the services come from: `tests.services`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.services import Services, describe_payloads
from tests.services import github_payloads as load_github_payloads

_SERVICES = pytest.StashKey[Services]()
_DESCRIBED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """With `-n`, each process of tests has services of its own, and the one that only deals them out leaves the
    environment to these.
    """
    worker = getattr(config, "workerinput", {"workerid": "gw0", "workercount": 1})
    part = (int(worker["workerid"].removeprefix("gw")), worker["workercount"])
    deals = config.getoption("numprocesses", None) is not None
    config.stash[_SERVICES] = Services(dict(os.environ) if deals else os.environ, part)
    config.stash[_DESCRIBED] = []
    if deals:
        config.pluginmanager.register(_Reports(config.stash[_DESCRIBED]))


class _Reports:
    """What processes of tests say in the end of what they ran against."""

    def __init__(self, described: list[str]) -> None:
        self._described = described

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        self._described.append(node.workeroutput["services"] if error is None else "a process of tests died")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (said := getattr(session.config, "workeroutput", None)) is not None:
        said["services"] = session.config.stash[_SERVICES].describe()


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"services: {config.stash[_SERVICES].describe()}"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    services = config.stash[_SERVICES]
    terminalreporter.section("tested against")
    said: list[str] = config.stash[_DESCRIBED]
    for described in dict.fromkeys(said or [services.describe()]):
        terminalreporter.line(f"services: {described}")
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
