"""`headrace queues` and `headrace workers`: what is left to do, and who does it."""

from __future__ import annotations

import asyncio
import time

import rich_click as click

from events import beats
from events.beats import QueueDepth, WorkerBeat
from events.types import QUEUES
from executor.cli.common import operator, print_json, settings_of, size, span, table

_json = click.option("--json", "as_json", is_flag=True, help="As JSON, with stable field names.")


@click.command()
@_json
def queues(*, as_json: bool) -> None:
    """List the queues: what is due, held, asleep, and for how long the first has waited."""

    async def read() -> list[QueueDepth]:
        async with operator(settings_of()) as database:
            return await beats.queues(database, QUEUES)

    found = asyncio.run(read())
    if as_json:
        for one in found:
            print_json(one)
        return
    rows = [
        (one.queue, one.due, one.held, one.later, one.suspects, "-" if one.oldest is None else span(one.oldest))
        for one in found
    ]
    click.echo(table(["QUEUE", "DUE", "HELD", "LATER", "SUSPECT", "OLDEST DUE"], rows))


@click.command()
@_json
def workers(*, as_json: bool) -> None:
    """List the workers that can be seen in Redis: what they hold, and whether they could take more."""
    found = beats.workers(settings_of().redis_url)
    if as_json:
        for one in found:
            print_json(one)
        return
    if not found:
        click.echo("no workers")
        return
    headers = ["WORKER", "QUEUES", "STATE", "HOLDS", "OF", "DONE", "LAST CLAIM", "LAG", "MEMORY", "UP", "VERSION"]
    click.echo(table(headers, [_row(one) for one in found]))


def _row(one: WorkerBeat) -> tuple[object, ...]:
    now = time.time()
    return (
        one.owner,
        ",".join(one.queues),
        "ready" if one.ready else one.reason,
        one.in_flight,
        one.capacity,
        one.finished,
        "-" if one.last_claim is None else f"{span(max(0.0, now - one.last_claim))} ago",
        span(one.loop_lag),
        size(one.memory),
        span(max(0.0, now - one.started_at)),
        one.version,
    )
