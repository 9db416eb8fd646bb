"""`headrace demo`: webhooks come in while a worker is killed and Redis is emptied, and every one of them is
done.

A whole system in a temporary directory, real processes and real stores, a receiver of our own, and signed
webhooks over HTTP. In the middle the worker of the queue `webhook` gets SIGKILL and Redis a FLUSHALL. When
all runs have ended, the database and the receiver are asked, by other means than those that did the work,
whether anything was lost or done twice. The last line says it, and so does the exit status. Nothing stays
behind.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import rich_click as click

from events.errors import HeadraceError
from events.settings import Settings
from executor.cli.apply import apply_files
from executor.cli.children import free_port
from executor.cli.demo_check import check
from executor.cli.demo_story import SOURCES, Demo
from executor.cli.dev import until_signalled
from executor.cli.embedded import scratch
from executor.cli.machine import Machine
from executor.cli.sink import Sink

DEFINITIONS = Path(__file__).parent.parent / "demo" / "demo.yaml"
LIMIT = 60.0
"""Seconds for all of it, and 0.1 s more for each webhook beyond 200."""
LEASE = 3
"""Seconds until the work of a killed worker is given to another: 30 in production."""


@click.command()
@click.option("--count", type=click.IntRange(10, 100_000), default=200, show_default=True, help="How many webhooks.")
def demo(count: int) -> None:
    """Watch webhooks survive a killed worker and a flushed Redis, then check every one."""
    began = time.monotonic()
    limit = LIMIT + max(0, count - 200) * 0.1
    secret = {source: secrets.token_hex(20) for source in SOURCES}
    with (
        until_signalled(),
        scratch() as directory,
        Sink() as sink,
        Machine(directory / "demo", _say) as machine,
    ):
        port = free_port()
        _say("starting PostgreSQL, Valkey, ingest, relay and a worker for each queue, in a temporary directory")
        settings = machine.start(
            {"ingest_port": port, "lease": LEASE, "relay_poll": 0.2, "egress_allow": ["127.0.0.0/8"]},
            _environ(os.environ),
            lambda loaded: _apply(loaded, directory, sink.url, secret),
        )
        _say("ready: three sources, four workflows, and a receiver that is slow and sometimes says 503")
        told = Demo(
            settings=settings,
            machine=machine,
            url=f"http://127.0.0.1:{port}",
            secret=secret,
            count=count,
            say=_say,
        )
        try:
            asyncio.run(_within(told, began + limit - time.monotonic()))
        except TimeoutError:
            _too_long(limit, told.at)
        verdict = asyncio.run(check(settings, told, sink))
    click.echo(verdict.table())
    click.echo(verdict.line())
    if not verdict.good:
        raise HeadraceError("demo: not all is as it must be; see the table")


async def _within(told: Demo, seconds: float) -> None:
    async with asyncio.timeout(max(1.0, seconds)):
        await told.tell()


def _too_long(limit: float, at: str) -> NoReturn:
    raise HeadraceError(
        f"demo: expected to be done within {limit:g} s, but was still {at}; is the machine busy?"
    ) from None


def _apply(settings: Settings, directory: Path, sink: str, secret: Mapping[str, str]) -> None:
    definitions = directory / "demo.yaml"
    definitions.write_text(DEFINITIONS.read_text(encoding="utf-8").replace("SINK/", f"{sink}/"), encoding="utf-8")
    environ = {f"DEMO_{source.upper()}_SECRET": value for source, value in secret.items()}
    asyncio.run(apply_files(settings, [definitions], environ | {"DEMO_SINK_SECRET": secrets.token_hex(20)}))


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours without Headrace's settings: the demo is the same wherever it is shown."""
    return {name: value for name, value in environ.items() if not name.startswith("HEADRACE_")}


def _say(text: str) -> None:
    click.echo(f"demo: {text}", err=True)
