"""Bring a database to the newest schema. Safe from several processes at once: the second waits, then finds it done.

The lock and every migration are one transaction: a process that dies in the middle leaves the schema as it was.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

# Any fixed number will do; it must only be the same in every version of Headrace.
_LOCK = 0x4845_4144_5241_4345


def upgrade(database_url: str) -> None:
    """Migrate to the newest revision. `database_url` is an administrator's (it makes roles), `postgresql://…`."""
    asyncio.run(upgrade_async(database_url))


async def upgrade_async(database_url: str, role_passwords: dict[str, str] | None = None) -> None:
    """`upgrade` for a running loop.

    Args:
        role_passwords: per process role (`ingest`, `worker`, `relay`, `operator`) a password with which the role itself
            may log in. Without one a role can only be taken on by a member (GRANT headrace_ingest TO your_login).
    """
    scheme, _, rest = database_url.partition("://")
    engine = create_async_engine(
        f"{scheme.replace('postgres', 'postgresql', 1) if scheme == 'postgres' else scheme}+asyncpg://{rest}",
        poolclass=NullPool,
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.run_sync(_upgrade)
            for role, password in (role_passwords or {}).items():
                # DDL takes no parameters; quote_literal makes the server build the statement.
                statement = await connection.scalar(
                    text(
                        "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', CAST(:role AS text), CAST(:password AS text))"
                    ),
                    {"role": f"headrace_{role}", "password": password},
                )
                await connection.execute(text(str(statement).replace(":", "\\:")))
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
