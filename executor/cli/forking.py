"""`headrace fork` and `headrace rerun`: new runs from old ones.

The id of the new run goes to stdout. Old runs stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import rich_click as click
from msgspec import UNSET

from events.effects import NewRun
from events.errors import HeadraceError
from events.settings import Settings
from executor.cli.acting import ring
from executor.cli.common import Id, operator, settings_of
from executor.engine import forks
from executor.engine.registry import Registry


@click.command()
@click.argument("id", type=Id())
@click.option("--from", "node", metavar="NODE", required=True, help="Where it begins: this node and all behind it.")
@click.option("--latest", is_flag=True, help="With the workflow's current version, not the one that the run had.")
@click.option("--version", "hash", metavar="HASH", help="With this version (its hash, or the beginning of it).")
def fork(*, id: UUID, node: str, latest: bool, hash: str | None) -> None:
    """Start a new run from a node of an old one, with the old one's results before it."""
    if latest and hash:
        raise click.UsageError("expected --latest or --version, got both")
    asyncio.run(_fork(settings_of(), id, node, latest, hash))


@click.command()
@click.argument("id", type=Id())
@click.option("--body", metavar="JSON", help="The delivery's body in its place: JSON, or @FILE.")
@click.option("--input", metavar="JSON", help="The run's input in its place: JSON, or @FILE.")
def rerun(*, id: UUID, body: str | None, input: str | None) -> None:
    """Start a run's workflow again, in its current version, with an edited body or input.

    The delivery in the log stays as it came. `headrace replay` repeats it unchanged.
    """
    edited = UNSET if body is None else _json("--body", body)
    given = UNSET if input is None else _json("--input", input)
    asyncio.run(_rerun(settings_of(), id, edited, given))


def _json(option: str, text: str) -> Any:
    try:
        raw = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return msgspec.json.decode(raw)
    except OSError as error:
        raise click.UsageError(f"{option}: expected a file that can be read, got: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise click.UsageError(f"{option}: expected JSON, got: {error}") from None


async def _fork(settings: Settings, id: UUID, node: str, latest: bool, hash: str | None) -> None:
    async with operator(settings) as database:
        specs = Registry.load(settings.node_modules).specs()
        await _said(settings, await forks.fork(database, specs, id, node, None if latest else hash or ""))


async def _rerun(settings: Settings, id: UUID, edited: Any, given: Any) -> None:
    async with operator(settings) as database:
        specs = Registry.load(settings.node_modules).specs()
        await _said(settings, await forks.rerun(database, specs, id, edited, given))


async def _said(settings: Settings, run: NewRun) -> None:
    with contextlib.suppress(HeadraceError):
        await asyncio.to_thread(ring, settings.redis_url, run.queue)
    click.echo(run.id)
    click.echo(f"headrace runs {run.id} shows how it goes", err=True)
