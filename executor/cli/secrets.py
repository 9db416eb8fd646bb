"""`headrace secrets`: which secrets there are, where they come from, when they end, and which key has sealed them.

Promises: no secret is shown, not even its length. A key is named by its id, which tells nothing of it.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
import rich_click as click

from events import definitions
from events.definitions import Change
from events.secretbox import SecretBox, key_id
from events.settings import Settings
from executor.cli.common import operator, print_json, settings_of, table
from ingest.definition import SecretRef, label_of


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One secret of a source or an endpoint.

    Args:
        label: what it is called in a delivery's history; `-` for an endpoint's, which has one at most.
        purpose: `sign`, or `handshake` for one that only answers a sender's questions.
        until: Unix seconds from which on it no longer passes; None: never.
        key: the id of the key that sealed it.
        current: whether that is the key that seals now; None without a secret_key.
    """

    kind: str
    name: str
    label: str
    purpose: str
    until: float | None
    key: str
    current: bool | None


@click.group()
def secrets() -> None:
    """Show which secrets there are, and seal them by a new key. No value is ever shown."""


@secrets.command("list")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each secret.")
def list_secrets(as_json: bool) -> None:
    """List the secrets of sources and endpoints: label, end, and the key that sealed each."""
    found = asyncio.run(_listed(settings_of()))
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        rows = [(one.kind, one.name, one.label, one.purpose, _until(one.until), _key(one)) for one in found]
        click.echo(table(["KIND", "NAME", "SECRET", "FOR", "UNTIL", "SEALED BY"], rows))
    else:
        click.echo("no secrets", err=True)


@secrets.command()
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each definition: kind, name, what.")
def reseal(as_json: bool) -> None:
    """Seal every secret by the first key of secret_key, whichever of its keys has sealed it before.

    Do it after a new key was put before the old one everywhere; then the old one can be taken away. Doing it
    again, or being stopped in between, does no harm.
    """
    changes = asyncio.run(_reseal(settings_of()))
    if as_json:
        for change in changes:
            print_json(change)
        return
    if changes:
        click.echo(table(["KIND", "NAME", "WHAT"], [(one.kind, one.name, one.what) for one in changes]))
    count = sum(change.what == "resealed" for change in changes)
    click.echo(f"{count} of {len(changes)} resealed; all secrets are sealed by the newest key", err=True)


async def _listed(settings: Settings) -> list[Listed]:
    box = SecretBox(settings.secret_key) if settings.secret_key else None
    found: list[Listed] = []
    async with operator(settings) as database:
        for source in sorted(await definitions.sources(database), key=lambda source: source.slug):
            said = source.definition.get("secrets") or []
            for index, sealed in enumerate(source.secrets):
                found.append(_of_source(source.slug, index, said[index] if index < len(said) else None, sealed, box))
        for endpoint in sorted(await definitions.endpoints(database), key=lambda endpoint: endpoint.name):
            if endpoint.secret is not None:
                found.append(_listing("endpoint", endpoint.name, endpoint.secret, box))
    return found


def _of_source(slug: str, index: int, said: object, sealed: bytes, box: SecretBox | None) -> Listed:
    listing = _listing("source", slug, sealed, box)
    try:
        reference: SecretRef = msgspec.convert(said, SecretRef)
    except msgspec.ValidationError:  # a newer version applied it
        return listing
    purpose = "handshake" if reference.handshake else "sign"
    return msgspec.structs.replace(listing, label=label_of(reference, index), purpose=purpose, until=reference.until)


def _listing(kind: str, name: str, sealed: bytes, box: SecretBox | None) -> Listed:
    current = box.current(sealed) if box is not None else None
    return Listed(kind=kind, name=name, label="-", purpose="sign", until=None, key=key_id(sealed), current=current)


def _until(until: float | None) -> str:
    return "-" if until is None else f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M:%S}Z"


def _key(one: Listed) -> str:
    match one.current:
        case True:
            return f"{one.key} (current)"
        case False:
            return f"{one.key} (old)"
        case None:
            return one.key


async def _reseal(settings: Settings) -> list[Change]:
    box = SecretBox(settings.secret_key)
    async with operator(settings) as database:
        return await definitions.reseal(database, box)
