"""`headrace send`: posts signed webhooks to a source and says how they were received.

The source's definition and secret are read from the database where no secret is given, which is for
development on one machine. Status 0 means that every delivery was acknowledged.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from pathlib import Path

import rich_click as click

from events.errors import HeadraceError
from executor.cli.common import operator, print_json, settings_of, span
from executor.cli.payloads import Payload, load_payloads, own_payloads
from executor.cli.progress import Progress
from executor.cli.senders import Sign, sender_for, stored_source
from executor.cli.sending import Delivery, Tally, send_all
from ingest.definition import SourceDefinition
from ingest.signing import SIGNABLE


@click.command()
@click.option("--source", required=True, metavar="SLUG", help="The source to send to.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How many.")
@click.option("--rate", type=click.FloatRange(0.01), default=200.0, show_default=True, help="Per second, at most.")
@click.option("--url", help="Where ingest is.  [as settings say, http://127.0.0.1:8080]")
@click.option(
    "--payloads", type=click.Path(path_type=Path), metavar="FILE|DIR", help="JSON lines (.gz too), or *.json."
)
@click.option("--secret", metavar="NAME|TEXT", help="An environment variable that holds it, or the secret itself.")
@click.option("--preset", type=click.Choice(SIGNABLE), help="With --secret: how to sign.  [the source's name]")
@click.option("--event", metavar="TYPE", help="Only payloads of this event; sent as this type if there are none.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=16, show_default=True, help="At once.")
@click.option("--json", "as_json", is_flag=True, help="The counts as one JSON document.")
def send(
    *,
    source: str,
    count: int,
    rate: float,
    url: str | None,
    payloads: Path | None,
    secret: str | None,
    preset: str | None,
    event: str | None,
    concurrency: int,
    as_json: bool,
) -> None:
    """Post signed webhooks to a source, as a sender would: again, under the same id, until acknowledged."""
    definition, key, base, public = asyncio.run(_source(source, secret, preset, url))
    target = f"{base.rstrip('/')}/in/{source}"
    make = sender_for(definition, key, public or target)
    chosen = _chosen(load_payloads(payloads) if payloads else own_payloads(definition.preset), event)
    turns = list(itertools.islice(itertools.cycle(chosen), count))
    began = time.monotonic()
    tally = asyncio.run(_send(target, turns, make, rate, concurrency))
    seconds = time.monotonic() - began
    _report(tally, seconds, as_json)
    if tally.sent != tally.accepted + tally.duplicate:
        unacknowledged = tally.refused + tally.failed
        raise HeadraceError(f"{unacknowledged} of {count} were not acknowledged; the first: {tally.fault}")


async def _source(
    slug: str, secret: str | None, preset: str | None, url: str | None
) -> tuple[SourceDefinition, str, str, str]:
    """The source, its secret, where ingest is, and the URL by which senders know the source (empty: that one)."""
    if secret is not None:
        chosen = preset or (slug if slug in SIGNABLE else "generic")
        definition = SourceDefinition(source=slug, preset=chosen)
        return definition, os.environ.get(secret, secret), url or "http://127.0.0.1:8080", ""
    settings = settings_of()
    async with operator(settings) as database:
        definition, key = await stored_source(database, slug, settings.secret_key)
    public = f"{settings.public_url.rstrip('/')}/in/{slug}" if settings.public_url else ""
    return definition, key, url or f"http://{settings.ingest_host}:{settings.ingest_port}", public


def _chosen(payloads: list[Payload], event: str | None) -> list[Payload]:
    if event is None:
        return payloads
    return [one for one in payloads if one[0] == event] or [(event, body) for _, body in payloads]


async def _send(url: str, turns: list[Payload], make: Sign, rate: float, concurrency: int) -> Tally:
    tally = Tally()
    with Progress(len(turns), "sent") as shown:

        def done(delivery: Delivery) -> None:
            tally.count(delivery)
            shown(tally.sent)

        await send_all(url, turns, make, done, rate=rate, concurrency=concurrency)
    return tally


def _report(tally: Tally, seconds: float, as_json: bool) -> None:
    p50, p99 = tally.wait(0.50), tally.wait(0.99)
    if as_json:
        counts = {
            name: getattr(tally, name) for name in ("sent", "accepted", "duplicate", "refused", "failed", "retries")
        }
        print_json({**counts, "seconds": seconds, "p50": p50, "p99": p99})
        return
    click.echo(
        f"{tally.sent:,} sent in {span(seconds)} ({tally.sent / seconds:,.0f}/s): "
        f"{tally.accepted:,} accepted, {tally.duplicate:,} duplicate, {tally.refused:,} refused, "
        f"{tally.failed:,} failed, {tally.retries:,} retries" + _waits(tally, p50, p99)
    )


def _waits(tally: Tally, p50: float, p99: float) -> str:
    """How long it took, rounded up to a millisecond; nothing where nothing was acknowledged."""
    if not tally.waits:
        return ""
    return f"; acknowledged within {span(max(p50, 0.001))} (p50), {span(max(p99, 0.001))} (p99)"
