"""`headrace rejected`: looks at refused requests, and admits those that pass once their source was corrected.

Admitting is an append like any other, with its dedup: what the sender has sent again meanwhile is a duplicate. A
command that dies between the append and its note is simply typed again: the delivery is met by its dedup key, and its
metadata says of which request it was made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, assert_never
from uuid import UUID

import rich_click as click

from events import definitions
from events import rejected as store
from events.database import Database
from events.errors import NotFound
from events.headers import decode_headers
from events.rejected import KeptRejection
from executor.cli.common import Id, exact, moment, operator, print_json, settings_of, size, table
from executor.cli.histories import body_document
from executor.cli.rechecking import Rechecked, recheck_all
from executor.cli.short import printable, shortened
from ingest.recheck import received_at

_json = click.option("--json", "as_json", is_flag=True, help="As JSON, with stable field names.")
_source = click.option("--source", metavar="SLUG", help="Only those of this source.")


@click.group()
def rejected() -> None:
    """Look at refused requests; check them again and admit those that pass."""


@rejected.command("list")
@_source
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at most.")
@click.option("--before", type=Id(), help="Only those before this id: the last one of the page before.")
@_json
def list_rejected(source: str | None, limit: int, before: UUID | None, as_json: bool) -> None:
    """List the newest refused requests that are still kept."""

    async def show() -> None:
        async with _store(source) as database:
            found = await store.rejections(database, source=source, before=before, limit=limit)
        if as_json:
            for one in found:
                print_json(_summary(one))
        elif found:
            rows = [(moment(received_at(r)), r.id, _name(r), _size(r), _state(r), shortened(r.reason)) for r in found]
            click.echo(table(["RECEIVED", "ID", "SOURCE", "SIZE", "STATE", "REASON"], rows))
        else:
            click.echo("no refused requests", err=True)

    asyncio.run(show())


@rejected.command()
@click.argument("id", type=Id())
@click.option("--headers", is_flag=True, help="With its headers (credentials are not shown).")
@click.option("--body", is_flag=True, help="With its body.")
@_json
def show(id: UUID, headers: bool, body: bool, as_json: bool) -> None:
    """Show one refused request."""

    async def found() -> KeptRejection:
        async with _store(None) as database:
            return await _one(database, id)

    one = asyncio.run(found())
    if as_json:
        document = _summary(one)
        if headers:
            document["headers"] = decode_headers(one.headers)
        if body:
            document["body"] = body_document(one.body)
        print_json(document)
    else:
        click.echo(_text(one, headers=headers, body=body))


@rejected.command()
@click.argument("ids", nargs=-1, type=Id(), metavar="[ID]…")
@_source
@click.option("--dry-run", is_flag=True, help="Only say what would be admitted.")
@_json
def recheck(ids: Sequence[UUID], source: str | None, dry_run: bool, as_json: bool) -> None:
    """Check refused requests again, and admit those that pass.

    Without an ID all that were not admitted yet. Each is judged by its source as it is now, at the time at
    which it was received.
    """
    if ids and source is not None:
        raise click.UsageError("expected ids or --source, got both")
    settings = settings_of()

    async def check() -> list[Rechecked]:
        async with _store(source) as database:
            rows = [(await _one(database, id)).id for id in ids] or await _pending(database, source)
            return await recheck_all(database, settings, rows, dry_run=dry_run)

    results = asyncio.run(check())
    if as_json:
        for result in results:
            print_json(result)
    elif results:
        click.echo(table(["ID", "SOURCE", "RESULT"], [(r.id, r.source or "-", said(r)) for r in results]))
    counts = {
        name: sum(r.result == name and not r.earlier for r in results) for name in ("admitted", "duplicate", "refused")
    }
    admitted = "would be admitted" if dry_run else "admitted"
    earlier = sum(r.earlier for r in results)
    click.echo(
        f"{len(results)} checked: {counts['admitted']} {admitted}, {counts['duplicate']} duplicate, "
        f"{counts['refused']} still refused" + (f", {earlier} dealt with before" if earlier else ""),
        err=True,
    )


def said(result: Rechecked) -> str:
    """A result in words."""
    match result.result:
        case "admitted" if result.earlier:
            return f"was admitted before, as {result.delivery}"
        case "admitted":
            return "would be admitted" if result.delivery is None else f"admitted as {result.delivery}"
        case "duplicate":
            return f"duplicate of {result.delivery}"
        case "refused":
            return f"still refused: {printable(result.reason or '')}"
        case impossible:
            assert_never(impossible)


@contextlib.asynccontextmanager
async def _store(source: str | None) -> AsyncIterator[Database]:
    """The database, once it is certain that there is such a source."""
    async with operator(settings_of()) as database:
        if source is not None and source not in {row.slug for row in await definitions.sources(database)}:
            raise NotFound(f"no source has the name {source!r}; `headrace apply` makes one")
        yield database


async def _one(database: Database, id: UUID) -> KeptRejection:
    found = await store.rejection(database, id)
    if found is None:
        raise NotFound(f"no refused request has the id {id}; it may be gone by now: `headrace rejected list`")
    return found


async def _pending(database: Database, source: str | None) -> list[UUID]:
    """All that were not admitted, oldest first."""
    ids: list[UUID] = []
    while page := await store.rejections(
        database, source=source, pending=True, before=ids[-1] if ids else None, limit=1000
    ):
        ids += [one.id for one in page]
    return ids[::-1]


def _summary(one: KeptRejection) -> dict[str, Any]:
    return {
        "id": one.id,
        "received_at": received_at(one),
        "source": _name(one),
        "state": _state(one),
        "admitted_as": one.admitted_as,
        "reason": one.reason,
        "metadata": one.metadata,
    }


def _name(one: KeptRejection) -> str:
    return one.source or str(one.metadata.get("source", "-"))


def _size(one: KeptRejection) -> str:
    return size(int(one.metadata.get("size", 0)))


def _state(one: KeptRejection) -> str:
    if one.admitted_as is None:
        return "refused"
    return "admitted" if one.by_staff else "duplicate"


def _text(one: KeptRejection, *, headers: bool, body: bool) -> str:
    facts = one.metadata
    request = f"{facts.get('method', '?')} {facts.get('path', '')}, {len(one.body):,} bytes"
    known = [
        ("source", _name(one)),
        ("reason", one.reason),
        ("received", exact(received_at(one))),
        ("request", f"{request}, {facts.get('content_type', 'no type')}"),
        ("query", facts.get("query")),
        ("from", facts.get("peer")),
        (_state(one) if one.admitted_as else "", one.admitted_as),
    ]
    lines = [f"refused request {one.id}: {_state(one)}"]
    lines += [f"  {name:<12} {printable(str(value))}" for name, value in known if value]
    if headers:
        lines += ["", "headers", *(f"  {name}: {printable(value)}" for name, value in decode_headers(one.headers))]
    if body:
        lines += ["", "body", printable(one.body.decode("utf-8", "replace"))]
    return "\n".join(lines)
