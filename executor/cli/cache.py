"""`headrace cache`: empties the cache of nodes' results. Nothing but calls is lost by it."""

from __future__ import annotations

import asyncio

import redis
import rich_click as click

from events.errors import Unavailable
from events.settings import Settings
from events.workspaces import workspace_id
from executor.cli.common import operator, settings_of
from executor.engine.cache_store import CacheStore
from executor.workflow.reading import NAME


@click.group()
def cache() -> None:
    """Empty the cache of nodes' results."""


@cache.command()
@click.option("--node", "uses", metavar="TYPE", help="Only results of this node type, for example http.request.")
@click.option("--workspace", metavar="NAME", help="Only results of this workspace.")
def clear(*, uses: str | None, workspace: str | None) -> None:
    """Remove cached results; nodes are called again."""
    if uses is not None and not NAME.fullmatch(uses):
        raise click.BadParameter(f"--node: expected a node type such as http.request, got {uses!r}")
    removed = asyncio.run(_clear(settings_of(), uses, workspace))
    click.echo(f"{removed:,} results removed")


async def _clear(settings: Settings, uses: str | None, workspace: str | None) -> int:
    whose = "*"
    if workspace is not None:
        async with operator(settings) as database:
            whose = str(await workspace_id(database, workspace))
    store = CacheStore(settings.state_redis_url)
    try:
        return await store.clear(f"{whose}:{uses or '*'}:*")
    except (redis.RedisError, OSError) as error:
        raise Unavailable(f"expected an answer of Redis (state_redis_url), got: {error}") from None
    finally:
        await store.aclose()
