"""`headrace cancel`, `pause`, `resume`, `retry`, `approve`: what people say to runs.

A command puts a row into the inbox of each run and rings; the run's holder answers in the run's history. Ids of runs
that were told go to stdout, one per line; all else to stderr. Status 0 means that at least one was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import rich_click as click

from events.control import Reopen, reopen
from events.database import Database
from events.errors import HeadraceError
from events.inbox import Message, Sent, send
from events.log import RunSummary
from events.settings import Settings
from executor.cli.acting import actor, ring
from executor.cli.common import Id, operator, settings_of
from executor.cli.selecting import Selection, agreed, runs_of, selected, selection
from executor.workflow.signals import Cancel, Decide, Pause, Resume, Retry, Signal, encode

OPEN = frozenset({"running", "waiting", "paused"})
ENDED = frozenset({"failed", "cancelled", "parked"})
AT_ONCE = 500
"""Runs that one statement tells."""

_reason = click.option("--reason", metavar="TEXT", help="Why; it is kept in the run's history.")


@click.command()
@selected
@_reason
def cancel(*, reason: str | None, **typed: Any) -> None:
    """End runs now. Nodes in flight are cancelled, what the run did is undone (`compensate`), child runs end too.

    Name runs by their ids, or choose them by filters; what filters find is shown first.
    """
    _tell(selection(**typed), Cancel(actor(), reason), "cancel")


@click.command()
@selected
@_reason
def pause(*, reason: str | None, **typed: Any) -> None:
    """Let runs start no further node. Nodes in flight end, timers go on, and `resume` lets it go on."""
    _tell(selection(**typed), Pause(actor(), reason), "pause")


@click.command()
@selected
def resume(**typed: Any) -> None:
    """Let paused runs go on."""
    _tell(selection(**typed), Resume(actor()), "resume")


@click.command()
@selected
@click.option("--node", metavar="NAME", help="Begin again at this node and all behind it, also what had completed.")
def retry(*, node: str | None, **typed: Any) -> None:
    """Have failed, cancelled or parked runs go on where they failed. What completed stays completed."""
    asyncio.run(_retry(settings_of(), selection(**typed), node))


@click.command()
@click.argument("id", type=Id())
@click.argument("node")
@click.option("--reject", is_flag=True, help="Say no. The node completes with approved: false.")
@click.option("--data", metavar="JSON", help="What the nodes behind it get to see besides.")
def approve(*, id: UUID, node: str, reject: bool, data: str | None) -> None:
    """Answer a `wait.approval`: run ID, NODE as `headrace runs ID` shows it."""
    try:
        value = None if data is None else msgspec.json.decode(data.encode())
    except msgspec.DecodeError as error:
        raise click.UsageError(f"--data: expected JSON, got: {error}") from None
    chosen = Selection((id,), None, None, None, True)
    _tell(chosen, Decide(node, not reject, actor(), value), "reject" if reject else "approve")


def _tell(chosen: Selection, signal: Signal, verb: str) -> None:
    asyncio.run(_told(settings_of(), chosen, signal, verb))


async def _told(settings: Settings, chosen: Selection, signal: Signal, verb: str) -> None:
    async with operator(settings) as database:
        runs = await runs_of(database, chosen, OPEN)
        if not agreed(chosen, runs, verb):
            return
        queues: set[str] = set()
        told = 0
        for start in range(0, len(runs), AT_ONCE):
            part = runs[start : start + AT_ONCE]
            answers = await send(database, [Message(run.id, *encode(signal)) for run in part])
            for run, answer in zip(part, answers, strict=True):
                if isinstance(answer, Sent):
                    told += 1
                    queues.update(() if answer.leased else (answer.queue,))
                    click.echo(run.id)
                else:
                    click.echo(f"run {run.id} has ended ({run.status})", err=True)
        await _ring(settings, queues)
    if not told:
        raise HeadraceError(f"expected a run that goes on, got none: nothing to {verb}; `headrace retry` reopens runs")


async def _retry(settings: Settings, chosen: Selection, node: str | None) -> None:
    async with operator(settings) as database:
        runs = await runs_of(database, chosen, ENDED)
        if not agreed(chosen, runs, "retry"):
            return
        opened = await _reopened(database, runs, encode(Retry(actor(), node))[1])
        for run in runs:
            if run.id in opened:
                click.echo(run.id)
            else:
                click.echo(f"run {run.id} goes on, or has completed ({run.status})", err=True)
        await _ring(settings, set(opened.values()))
    if not opened:
        raise HeadraceError("expected a run that failed, was cancelled or is parked, got none; nothing was retried")


async def _reopened(database: Database, runs: Sequence[RunSummary], body: bytes) -> dict[UUID, str]:
    opened: dict[UUID, str] = {}
    for start in range(0, len(runs), AT_ONCE):
        opened |= await reopen(database, [Reopen(run.id, body) for run in runs[start : start + AT_ONCE]])
    return opened


async def _ring(settings: Settings, queues: set[str]) -> None:
    for queue in sorted(queues):
        await asyncio.to_thread(ring, settings.redis_url, queue)
