"""`headrace dev`: everything on this machine under `./.headrace`, until Ctrl-C.

What it makes stays there: the data, the API key, the settings that other commands in this directory find. The
examples are applied the first time only, so that they may be changed. Loopback addresses may be called by
nodes, unlike in production, because a developer's other services are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import rich_click as click

from events import api_keys, definitions
from events.api_keys import Role
from events.settings import Settings
from executor.cli.apply import apply_files
from executor.cli.children import free_port, port_is_free
from executor.cli.common import operator, span
from executor.cli.machine import Machine
from executor.cli.supervisor import Value

DIRECTORY = Path(".headrace")
EXAMPLES = Path(__file__).parent.parent / "demo" / "dev.yaml"
CONSOLE_PORT = 8081
CONSOLE_KEY = "console.key"
LOOPBACK = ["127.0.0.0/8", "::1/128"]


@click.command()
@click.option("--ingest-port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="For ingest.")
@click.option(
    "--public-url",
    envvar="HEADRACE_PUBLIC_URL",
    metavar="URL",
    help="Where senders reach ingest, through a tunnel for example.  [http://127.0.0.1 and the port]",
)
def dev(ingest_port: int, public_url: str | None) -> None:
    """Run everything on this machine, until Ctrl-C; data stays in ./.headrace."""
    began = time.monotonic()
    with until_signalled() as signalled, Machine(DIRECTORY, _say) as machine:
        port = ingest_port if port_is_free(ingest_port) else free_port()
        if port != ingest_port:
            _say(f"port {ingest_port} is taken by something else; ingest takes {port}")
        key = machine.secret("hello.key", lambda: f"hr_{secrets.token_urlsafe(24)}")
        machine.secret("github.secret", lambda: secrets.token_hex(20))
        console = CONSOLE_PORT if port_is_free(CONSOLE_PORT) else free_port()
        settings: dict[str, Value] = {
            "ingest_port": port,
            "console_port": console,
            "public_url": public_url or f"http://127.0.0.1:{port}",
            "egress_allow": LOOPBACK,
        }
        machine.start(settings, os.environ, lambda loaded: asyncio.run(_first_time(loaded, machine)), console=True)
        click.echo(_welcome(port, console, public_url, key, time.monotonic() - began))
        signalled.wait()
        _say("stopping; the data stays in .headrace")


@contextlib.contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; while nobody waits for it, they raise KeyboardInterrupt."""
    signalled = _Awaited()
    before = {number: signal.signal(number, signalled.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Awaited(threading.Event):
    def __init__(self) -> None:
        super().__init__()
        self._waiting = False

    def wait(self, timeout: float | None = None) -> bool:
        self._waiting = True
        try:
            return super().wait(timeout)
        finally:
            self._waiting = False

    def handle(self, _number: int, _frame: object) -> None:
        if self.is_set() or not self._waiting:
            raise KeyboardInterrupt
        self.set()


async def _first_time(settings: Settings, machine: Machine) -> None:
    async with operator(settings) as database:
        if not await api_keys.listed(database):
            text = await api_keys.add(database, definitions.DEFAULT_WORKSPACE, "dev", Role.ADMIN)
            machine.secret(CONSOLE_KEY, lambda: text)
        fresh = not await definitions.sources(database) and not await definitions.workflows(database)
    if fresh:
        await apply_files(settings, [EXAMPLES], {})


def _say(text: str) -> None:
    click.echo(f"headrace: {text}", err=True)


def _welcome(port: int, console: int, public_url: str | None, key: str, seconds: float) -> str:
    url = f"http://127.0.0.1:{port}"
    outside = f"\n  for senders {public_url.rstrip('/')}/in/SOURCE" if public_url else ""
    return f"""headrace is ready after {span(seconds)}
  webhooks    {url}/in/SOURCE, sources: hello, github{outside}
  API key     {key} (of hello; in .headrace/hello.key)
  console     http://127.0.0.1:{console}, for API users; an admin's key is in .headrace/{CONSOLE_KEY}
  logs        .headrace/logs, settings in .headrace/dev.toml

Send it something, from another terminal:
  curl -sS {url}/in/hello -H 'Authorization: Bearer {key}' -d '{{"name": "world"}}'

(The same bytes again are a duplicate, unless an X-Delivery-Id header tells them apart.)

Then, in this directory:
  headrace events                             what came in
  headrace runs                               what was done about it
  headrace replay ID                          do it again
  headrace rejected list                      what was refused, and why
  headrace send --source github --count 100   as GitHub would
  headrace providers                          whose webhooks a source can take
  headrace apply FILE                         your own sources and workflows

Ctrl-C stops everything; the data stays."""
