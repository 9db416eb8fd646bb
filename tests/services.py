"""Where the tests' PostgreSQL and Redis come from, and where their payloads come from.

Each service, in this order: the address in the environment (`HEADRACE_TEST_DATABASE_URL`, a superuser's;
`HEADRACE_TEST_REDIS_URL`, a server whose databases the tests may flush), else a container where an engine
answers, else the embedded server in a temporary directory. `describe` says which, so that no run hides what
it ran against. A service starts when a test first needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import secrets
import socket
from collections.abc import Coroutine, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from executor.cli.embedded import EmbeddedPostgres, EmbeddedRedis, scratch

ROOT = Path(__file__).parent.parent
POSTGRES_IMAGE = "postgres:18"
REDIS_IMAGE = "redis:8"
_REAL_PAYLOADS = ROOT.parent / "shared/data/github-webhooks.jsonl.gz"
_OWN_PAYLOADS = ROOT / "executor/demo/payloads"
_EMBEDDED_DATABASES = 512  # so that most tests get Redis databases nobody had before them

Result = TypeVar("Result")


def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine to its end from synchronous code, whether or not this thread has a loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def with_path(url: str, path: str) -> str:
    """The same address with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))


class Services:
    """The session's PostgreSQL and Redis. `close` stops what this started and drops what it made."""

    def __init__(self, environ: MutableMapping[str, str], part: tuple[int, int] = (0, 1)) -> None:
        """Takes its variables out of `environ`: the settings of a process under test do not know them.

        Args:
            part: which of how many processes of tests this is; they share a Redis that was given.
        """
        self._part = part
        self._postgres_given = environ.pop("HEADRACE_TEST_DATABASE_URL", "")
        self._redis_given = environ.pop("HEADRACE_TEST_REDIS_URL", "")
        self.data = Path(environ.pop("HEADRACE_TEST_DATA", "") or _REAL_PAYLOADS)
        self._engine = environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        self._cleanup = contextlib.ExitStack()
        self._databases = itertools.count()
        self._prefix = f"headrace_test_{secrets.token_hex(3)}"
        self._seen: dict[str, str] = {}

    def describe(self) -> str:
        """Which services are used, with their versions once they run."""
        return ", ".join(
            f"{name} from {origin}{self._seen.get(name, ' (not needed yet)')}"
            for name, origin in (
                ("PostgreSQL", self._origin(self._postgres_given)),
                ("Redis", self._origin(self._redis_given)),
            )
        )

    def close(self) -> None:
        """Stops and drops everything. The services cannot be used after it."""
        self._cleanup.close()

    def _origin(self, given: str) -> str:
        return "the environment" if given else "a container" if self._engine_answers else "the embedded server"

    @cached_property
    def _engine_answers(self) -> bool:
        return _answers(self._engine)

    @cached_property
    def _directory(self) -> Path:
        return self._cleanup.enter_context(scratch())

    @cached_property
    def postgres_url(self) -> str:
        """A superuser's address."""
        url = self._postgres_given or (self._postgres_container() if self._engine_answers else "")
        if not url:
            server = EmbeddedPostgres(self._directory / "postgres")
            server.start()
            self._cleanup.callback(server.stop, "immediate")
            url = server.url
        version = self._execute("SHOW server_version", url=url)
        self._seen["PostgreSQL"] = f", version {str(version).split()[0]}"
        return url

    def _postgres_container(self) -> str:
        password = secrets.token_hex(8)
        host, port = self._container(POSTGRES_IMAGE, 5432, POSTGRES_PASSWORD=password)
        url = f"postgresql://postgres:{password}@{host}:{port}/postgres"
        wait_for(_until_connected(url))
        return url

    def _container(self, image: str, port: int, **environment: str) -> tuple[str, int]:
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415

        container = DockerContainer(image).with_exposed_ports(port)
        for name, value in environment.items():
            container = container.with_env(name, value)
        self._cleanup.callback(container.stop)
        container.start()
        return container.get_container_host_ip(), int(container.get_exposed_port(port))

    def _execute(self, statement: str, url: str = "") -> Any:
        """Runs one statement outside of any transaction; its first value, if it has one."""

        async def execute() -> Any:
            connection = await asyncpg.connect(url or self.postgres_url, timeout=30)
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()

        return wait_for(execute())

    @cached_property
    def _template(self) -> str:
        """One migrated database, from which every test's is cloned."""
        from migrations.run import upgrade  # noqa: PLC0415  # only tests with a database need it to work

        name = f"{self._prefix}_template"
        self._execute(f"CREATE DATABASE {name} TEMPLATE template0")
        self._cleanup.callback(self._execute, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        upgrade(with_path(self.postgres_url, name))
        return name

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The address of a fresh, migrated database; it is dropped at the end, whoever is still connected."""
        name = f"{self._prefix}_{next(self._databases)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        try:
            yield with_path(self.postgres_url, name)
        finally:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @cached_property
    def redis_url(self) -> str:
        """The Redis server's address, on database 0."""
        url = self._redis_given
        if not url and self._engine_answers:
            host, port = self._container(REDIS_IMAGE, 6379)
            url = f"redis://{host}:{port}/0"
        if not url:
            server = EmbeddedRedis(self._directory / "redis", databases=_EMBEDDED_DATABASES, persist=False)
            server.start()
            self._cleanup.callback(server.kill)
            url = server.url
        with redis.Redis.from_url(url, retry=_patient()) as client:
            about = client.info("server")
        self._seen["Redis"] = (
            f", {about.get('server_name', 'redis')} {about.get('valkey_version', about['redis_version'])}"
        )
        return with_path(url, "0")

    @cached_property
    def _redis_numbers(self) -> Iterator[int]:
        with redis.Redis.from_url(self.redis_url) as client:
            number, of = self._part
            return itertools.cycle(range(number, int(client.config_get("databases")["databases"]), of))

    def redis_database(self) -> str:
        """The address of an empty Redis database, nobody else's until all others have had their turn."""
        url = with_path(self.redis_url, str(next(self._redis_numbers)))
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url


def _answers(engine: str) -> bool:
    """Whether a container engine answers a ping at this address (`unix://…`, `tcp://…`) within 2 s."""
    address = urlsplit(engine)
    try:
        with socket.socket(socket.AF_UNIX if address.scheme == "unix" else socket.AF_INET) as connection:
            connection.settimeout(2)
            connection.connect(address.path if address.scheme == "unix" else (address.hostname, address.port or 2375))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def _patient() -> Retry:
    return Retry(ConstantBackoff(0.1), 100)


async def _until_connected(url: str) -> None:
    """A container's port is open before its server is: try for up to 60 s."""
    async with asyncio.timeout(60):
        while True:
            try:
                await (await asyncpg.connect(url, timeout=5)).close()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.1)
            else:
                return


def github_payloads(real: Path) -> list[tuple[str, bytes]]:
    """(event, body) of each GitHub webhook in the real collection, or of the project's own few without it."""
    if not real.exists():
        files = sorted(_OWN_PAYLOADS.glob("github.*.json"))
        return [(file.name.split(".")[1], file.read_bytes()) for file in files]
    with gzip.open(real) as lines:
        rows = [json.loads(line) for line in lines]
    return [(row["event"], json.dumps(row["payload"], separators=(",", ":")).encode()) for row in rows]


def describe_payloads(real: Path) -> str:
    """What was tested with, and what was left out."""
    if real.exists():
        return f"the real GitHub payloads ({real.name})"
    count = len(github_payloads(real))
    return f"LEFT OUT the real GitHub payloads: no {real.name}; used the project's own {count} instead"
