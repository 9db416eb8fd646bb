"""The way to PostgreSQL: pools that carry a role, drivers' errors translated, the clock measured.

Every process takes on its own narrow role (`SET ROLE` at connect), so that even a superuser's URL in development runs
with production's rights. The log and the work list are only ever looked up by key; the planner is told so (no hash or
merge joins, no sequential scans), because one generic plan that scans all partitions would be a stall and not a delay.
Readers with filters of their own (`events.log`) go through SQLAlchemy and plan freely.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import asyncpg
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from events.errors import BadRow, ConfigError, HeadraceError, OutcomeUnknown, Unavailable
from events.ids import Clock

_log = structlog.get_logger(__name__)

Role = Literal["ingest", "worker", "relay", "operator"]

_BY_KEY = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
# The server did nothing: it was starting, stopping, full, or chose us in a deadlock.
_NOT_DONE = (
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,  # disk full, out of memory
    asyncpg.OperatorInterventionError,  # admin shutdown, query cancelled
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.ReadOnlySQLTransactionError,
)
_BAD_ROW = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
# The connection went away while we waited for an answer: a commit may have happened.
_UNKNOWN = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


async def _no_reset(_connection: object) -> None:
    """No statement here leaves anything behind in its session, so a round trip at every release is saved."""


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        cause = error.orig.__cause__ if error.orig is not None else None
        raise (cause if isinstance(cause, Exception) else error) from None


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns asyncpg's errors into ours (see `events.errors`), also those that come wrapped by SQLAlchemy."""
    try:
        with _unwrapped():
            yield
    except _NOT_DONE as error:
        raise Unavailable(f"PostgreSQL did not take the statement: {error}") from error
    except _BAD_ROW as error:
        raise BadRow(f"{type(error).__name__}: {error}") from error
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise Unavailable(f"PostgreSQL refused the login: {error}; check database_url") from error
    except asyncpg.UndefinedTableError as error:
        raise ConfigError(
            "database", [f"schema: expected Headrace's tables, got: {error}; run `headrace migrate`"]
        ) from error
    except _UNKNOWN as error:
        raise OutcomeUnknown(f"the connection to PostgreSQL broke: {error or type(error).__name__}") from error
    except asyncpg.PostgresError as error:
        raise HeadraceError(f"PostgreSQL: {type(error).__name__}: {error}") from error


class Database:
    """A pool of connections in one role, and the estimate of the database's clock.

    Args:
        url: `postgresql://…`.
        role: the process's role; `headrace_<role>` is taken on by every connection.
        size: the most connections held, default 4.
        timeout: seconds a statement or a connect may take, default 30.
    """

    def __init__(self, url: str, role: Role, *, size: int = 4, timeout: float = 30.0) -> None:
        self.url = url
        self.role = role
        self.clock = Clock()
        self._size = size
        self._timeout = timeout
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._engine: AsyncEngine | None = None
        self._settings = {"role": f"headrace_{role}", "application_name": f"headrace {role}"} | (
            {} if role == "operator" else _BY_KEY
        )

    async def open(self) -> None:
        """Connects and measures the clock.

        Raises:
            Unavailable: the server cannot be reached now.
            ConfigError: there is no database_url, or the schema is not Headrace's.
        """
        if not self.url:
            raise ConfigError(
                "settings", ["database_url: expected postgresql://…, got nothing; set HEADRACE_DATABASE_URL"]
            )
        with translated():
            self._pool = await asyncpg.create_pool(
                self.url,
                min_size=1,
                max_size=self._size,
                timeout=self._timeout,
                command_timeout=self._timeout,
                server_settings=self._settings,
                reset=_no_reset,
            )
        await self.measure_clock()

    async def open_patiently(self) -> None:
        """`open`, however long the server takes to be there; a warning every second until then."""
        while True:
            try:
                return await self.open()
            except Unavailable as error:
                _log.warning("database.waiting", role=self.role, error=str(error))
                await asyncio.sleep(1)

    async def reach(self, within: float = 2.0) -> None:
        """Asks over a connection of its own, and has the pool make all of its anew: after an outage the old ones may
        lead nowhere.

        Args:
            within: seconds.

        Raises:
            Unavailable: there is no answer.
        """
        if self._pool is None:
            raise Unavailable("PostgreSQL was not reached yet")
        with translated():
            async with asyncio.timeout(within):
                connection = await asyncpg.connect(self.url, timeout=within, server_settings=self._settings)
                try:
                    await connection.fetchval("SELECT 1")
                finally:
                    connection.terminate()
            await self._pool.expire_connections()

    async def measure_clock(self) -> None:
        """Sets the clock's offset from three round trips, the quickest of which counts."""
        best = (float("inf"), 0.0)
        for _ in range(3):
            sent = time.time()
            server = await self.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            trip = time.time() - sent
            best = min(best, (trip, server - sent - trip / 2))
        self.clock.offset = best[1]

    async def keep_clock(self) -> None:
        """Measures the clock every minute until cancelled: a host's clock is stepped, and a machine sleeps."""
        while True:
            await asyncio.sleep(60)
            with contextlib.suppress(HeadraceError):
                await self.measure_clock()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]:
        """A pooled connection; errors inside are translated."""
        if self._pool is None:
            raise Unavailable("PostgreSQL was not reached yet")
        with translated():
            async with self._pool.acquire(timeout=self._timeout) as connection:
                try:
                    yield connection
                except asyncpg.InternalClientError:  # a server that shuts down can leave the protocol in between
                    connection.terminate()
                    raise

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Rows of one statement in its own transaction."""
        async with self.connection() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        """The first column of the first row."""
        async with self.connection() as connection:
            return await connection.fetchval(statement, *arguments)

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine over the same URL and role, for readers and definitions."""
        if self._engine is None:
            self._engine = create_async_engine(
                "postgresql+asyncpg://" + self.url.partition("://")[2],
                pool_size=2,
                connect_args={"server_settings": self._settings},
            )
        return self._engine

    async def close(self) -> None:
        """Gives statements in flight five seconds, then closes."""
        if self._engine is not None:
            await self._engine.dispose()
        if self._pool is not None:
            try:
                async with asyncio.timeout(5):
                    await self._pool.close()
            except TimeoutError:
                self._pool.terminate()
