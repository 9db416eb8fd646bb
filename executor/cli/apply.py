"""`headrace apply`: sources, endpoints and workflows become what the files say, all of them or none.

One transaction: a process sees all of an apply or nothing. What stands in the database already is left as it
is and shown as unchanged, secrets included: applying the same files again changes nothing, but for secrets
that an older key has sealed. What the files do not name stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import rich_click as click

from events import definitions
from events.database import Database, translated
from events.definitions import Applying, Change, endpoint_context
from events.errors import ConfigError
from events.schedules import ScheduleRow
from events.secretbox import SecretBox
from events.settings import Settings
from events.workspaces import workspace_id
from executor.cli.common import in_workspace, operator, print_json, settings_in, table
from executor.cli.definition_files import (
    Definitions,
    NamedEndpoint,
    NamedSource,
    NamedWorkflow,
    definition_files,
    read_definitions,
    unknown_sources,
    without_url,
)
from executor.cli.differences import changed, in_flight
from executor.engine.registry import Registry
from executor.workflow.schedules import next_time


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE…|DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each definition: kind, name, what.")
@click.option("--dry-run", is_flag=True, help="Check all of it and show what would change; change nothing.")
@in_workspace
def apply(*, paths: Sequence[Path], as_json: bool, dry_run: bool, workspace: str | None) -> None:
    """Make sources, endpoints and workflows what these YAML files say.

    A fault anywhere changes nothing; all faults of all files are shown at once. What changes about a workflow is shown
    line by line; runs in flight stay on the version with which they began.
    """
    settings = settings_in(workspace)
    notes: list[str] = []
    changes = asyncio.run(apply_files(settings, paths, os.environ, notes, dry_run=dry_run))
    if as_json:
        for change in changes:
            print_json(change)
        return
    rows = [(change.kind, change.name, change.what) for change in changes]
    click.echo(table(["KIND", "NAME", "WHAT"], rows))
    for note in notes:
        click.echo(note, err=True)
    if dry_run:
        click.echo("nothing was changed: this was a dry run", err=True)


async def apply_files(
    settings: Settings,
    paths: Sequence[Path],
    environ: Mapping[str, str],
    notes: list[str] | None = None,
    *,
    dry_run: bool = False,
) -> list[Change]:
    """Reads the files, checks all of it, and applies it in one transaction.

    Args:
        environ: where `{env: NAME}` is looked up.
        notes: gets what changes about workflows, as lines for people.
        dry_run: take all of it back at the end.

    Raises:
        ConfigError: with every fault; nothing was changed.
        Unavailable: PostgreSQL cannot be reached.
    """
    specs = Registry.load(settings.node_modules).specs()
    read = read_definitions(definition_files(paths), environ, specs)
    if not settings.public_url and (faults := without_url(read)):
        raise ConfigError("apply", faults)
    box = _box(settings, read)
    async with operator(settings) as database:
        workspace = await workspace_id(database, settings.workspace)
        known = {source.slug for source in await definitions.sources(database, workspace) if source.definition}
        if faults := unknown_sources(read, known):
            raise ConfigError("apply", faults)
        before = await definitions.workflows(database, workspace)
        changes = await _store(database, workspace, read, box, dry_run)
        if notes is not None:
            notes += changed(changes, before, {one.name: one.document for one in read.workflows})
            notes += await in_flight(database, workspace, changes, dry_run=dry_run)
        return changes


class _DryRun(Exception):
    """Takes back all that was stored."""


def _box(settings: Settings, read: Definitions) -> SecretBox | None:
    """What seals the secrets; None when there are none to seal."""
    if settings.secret_key:
        return SecretBox(settings.secret_key)
    if any(source.secrets for source in read.sources) or any(endpoint.secret for endpoint in read.endpoints):
        SecretBox("")  # raises, and says how to make a key
    return None


async def _store(
    database: Database, workspace: int, read: Definitions, box: SecretBox | None, dry_run: bool
) -> list[Change]:
    with translated(), contextlib.suppress(_DryRun):
        async with Applying(database, workspace) as applying:
            for source in read.sources:
                await _store_source(applying, source, box)
            for endpoint in read.endpoints:
                await _store_endpoint(applying, endpoint, box)
            for workflow in read.workflows:
                rows = _schedules(workspace, workflow, database.clock.now())
                await applying.workflow(workflow.name, workflow.hash, workflow.document, workflow.waits, rows)
            if dry_run:
                raise _DryRun
    return applying.changes


def _schedules(workspace: int, workflow: NamedWorkflow, now: float) -> list[ScheduleRow]:
    """The rows of a workflow's schedules as of now; those that stand there already keep their time."""
    return [
        ScheduleRow(workspace, workflow.name, one.expression, one.tz, one.catch_up, next_time(one, now))
        for one in workflow.schedules
    ]


async def _store_source(applying: Applying, source: NamedSource, box: SecretBox | None) -> None:
    slug = source.definition.source
    id = await applying.source_id(slug)
    stored: list[bytes] = await applying.stored_secrets(id)
    before = stored if len(stored) == len(source.secrets) else [None] * len(source.secrets)
    pairs = [_sealed(box, old, new, f"source/{id}") for old, new in zip(before, source.secrets, strict=True)]
    same = len(stored) == len(pairs) and all(same for _, same in pairs)
    definition = msgspec.json.decode(msgspec.json.encode(source.definition))  # as the database gives it back
    await applying.source(id, slug, definition, [sealed for sealed, _ in pairs], same_secrets=same)


async def _store_endpoint(applying: Applying, endpoint: NamedEndpoint, box: SecretBox | None) -> None:
    stored = await applying.stored_endpoint(endpoint.name)
    before = stored.secret if stored is not None else None
    sealed, same = None, before is None
    if endpoint.secret is not None:
        sealed, same = _sealed(box, before, endpoint.secret, endpoint_context(endpoint.name, applying.workspace_id))
    await applying.endpoint(endpoint.name, endpoint.url, sealed, stored, same_secret=same)


def _sealed(box: SecretBox | None, before: bytes | None, secret: bytes, context: str) -> tuple[bytes, bool]:
    """The secret, sealed by the newest key, and whether it is the same that stood there `before`."""
    assert box is not None  # `_box` made one, because there are secrets
    same = before is not None and _opens_to(box, before, context, secret)
    if same and before is not None and box.current(before):
        return before, True
    return box.seal(secret, context), same


def _opens_to(box: SecretBox, sealed: bytes, context: str, secret: bytes) -> bool:
    try:
        return box.open(sealed, context) == secret
    except ConfigError:  # sealed with another key: seal it anew
        return False
