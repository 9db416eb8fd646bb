"""Which runs a command is about: those named, or those that filters fit, shown before anything is done to them."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import rich_click as click

from events import log
from events.database import Database
from events.errors import HeadraceError, NotFound
from events.ids import uuid7_floor
from events.log import RunSummary
from events.settings import parse_duration
from executor.cli.common import Id, table

MOST = 10_000
"""Runs that one command touches."""
SHOWN = 10
"""Runs that a preview names."""

F = TypeVar("F", bound=Callable[..., Any])


class Selection(msgspec.Struct, frozen=True):
    """What was typed: ids, or filters."""

    ids: tuple[UUID, ...]
    workflow: str | None
    status: str | None
    since: float | None
    yes: bool


def selected(command: F) -> F:
    """Adds the arguments that `Selection` holds to a command."""
    for option in (
        click.option("--yes", is_flag=True, help="Do it without asking. With filters, what is touched is shown first."),
        click.option("--since", metavar="DURATION", help="Only those that began within this time, such as 2h."),
        click.option("--status", metavar="STATUS", help="Only those with this status."),
        click.option("--workflow", metavar="NAME", help="Only runs of this workflow."),
        click.argument("ids", nargs=-1, type=Id()),
    ):
        command = option(command)
    return command


def selection(ids: Sequence[UUID], workflow: str | None, status: str | None, since: str | None, yes: bool) -> Selection:
    """What was typed, if it makes sense.

    Raises:
        UsageError: neither ids nor filters, or both.
    """
    if bool(ids) == bool(workflow or status or since):
        raise click.UsageError("expected ids of runs, or filters (--workflow, --status, --since), got both or none")
    try:
        seconds = None if since is None else parse_duration(since)
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from None
    return Selection(tuple(ids), workflow, status, seconds, yes)


async def runs_of(database: Database, chosen: Selection, fitting: frozenset[str]) -> list[RunSummary]:
    """The runs that are meant, with a status that the command is for.

    Raises:
        NotFound: there is no run with one of the ids.
        HeadraceError: filters fit more runs than one command touches.
    """
    if chosen.ids:
        found = [(id, await log.run(database, id)) for id in chosen.ids]
        if missing := [str(id) for id, run in found if run is None]:
            raise NotFound(f"no run has the id {', '.join(missing)}; `headrace runs` lists them")
        return [run for _, run in found if run is not None]
    runs = await log.runs(database, limit=MOST + 1, status=chosen.status, workflow=chosen.workflow)
    if chosen.since is not None:
        first = uuid7_floor(time.time() - chosen.since)
        runs = [run for run in runs if run.id >= first]
    runs = [run for run in runs if run.status in fitting]
    if len(runs) > MOST:
        raise HeadraceError(f"expected at most {MOST:,} runs, got more; narrow it down with --workflow, --since")
    return runs


def agreed(chosen: Selection, runs: Sequence[RunSummary], verb: str) -> bool:
    """Whether it is to be done. What filters have found is shown, and asked for unless `--yes` was typed."""
    if chosen.ids:
        return True
    if not runs:
        click.echo(f"nothing to {verb}", err=True)
        return False
    counts = Counter((run.workflow, run.status) for run in runs)
    click.echo(
        table(("workflow", "status", "runs"), [(*key, count) for key, count in sorted(counts.items())]), err=True
    )
    for run in runs[:SHOWN]:
        click.echo(f"  {run.id}", err=True)
    if len(runs) > SHOWN:
        click.echo(f"  … and {len(runs) - SHOWN:,} more", err=True)
    if chosen.yes:
        return True
    if not sys.stdin.isatty():
        click.echo(f"nothing was done; --yes would {verb} these {len(runs):,} runs", err=True)
        return False
    return click.confirm(f"{verb} these {len(runs):,} runs?", err=True)
