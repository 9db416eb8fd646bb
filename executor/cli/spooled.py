"""`headrace spool`: looks at what lies in an ingest's spool, and above all at what the log refused.

It reads the file at HEADRACE_SPOOL_DIR, so it is typed where that ingest runs; it needs no PostgreSQL, and the ingest
may run meanwhile. What is shown is what `headrace events` would show: credentials were replaced before it was kept.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import rich_click as click

from events.errors import ConfigError
from events.headers import decode_headers
from events.settings import load_settings
from events.types import Receipt
from executor.cli.common import Id, exact, moment, print_json, size, table
from executor.cli.histories import body_document
from executor.cli.short import printable, shortened
from ingest.spool_look import SpoolRow, look, look_at

_json = click.option("--json", "as_json", is_flag=True, help="As JSON, with stable field names.")


@click.group()
def spool() -> None:
    """Look at deliveries that lie in this machine's spool."""


@spool.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at most.")
@_json
def list_spooled(limit: int, as_json: bool) -> None:
    """Say how many wait for PostgreSQL, and list those that it refused."""
    found = look(_directory(), limit)
    if as_json:
        print_json(found)
        return
    if found.rows:
        rows = [(moment(r.received_at), r.id, _name(r), size(r.size), shortened(r.refused)) for r in found.rows]
        click.echo(table(["RECEIVED", "ID", "SOURCE", "SIZE", "REASON"], rows))
    oldest = f" (the oldest since {exact(found.oldest)})" if found.oldest is not None else ""
    more = f", {len(found.rows)} of them shown" if len(found.rows) < found.refused else ""
    click.echo(f"{found.waiting:,} waiting{oldest}, {found.refused:,} refused{more}; {size(found.size)}", err=True)


@spool.command()
@click.argument("id", type=Id())
@click.option("--headers", is_flag=True, help="With its headers (credentials are not shown).")
@click.option("--body", is_flag=True, help="With its body.")
@_json
def show(id: UUID, headers: bool, body: bool, as_json: bool) -> None:
    """Show one delivery that lies in the spool, waiting or refused."""
    row, receipt = look_at(_directory(), id)
    if as_json:
        print_json(_document(row, receipt, headers=headers, body=body))
    else:
        click.echo(_text(row, receipt, headers=headers, body=body))


def _directory() -> Path:
    settings = load_settings(os.environ)
    if not settings.spool_dir:
        fault = "spool_dir: expected the directory of an ingest's spool, got nothing; set HEADRACE_SPOOL_DIR"
        raise ConfigError("settings", [fault])
    return Path(settings.spool_dir)


def _name(row: SpoolRow) -> str:
    return row.source or f"number {row.source_id}"


def _document(row: SpoolRow, receipt: Receipt | None, *, headers: bool, body: bool) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.structs.asdict(row)
    document["readable"] = receipt is not None
    if receipt is not None:
        document["metadata"] = msgspec.json.decode(receipt.metadata)
        if headers:
            document["headers"] = decode_headers(receipt.headers)
        if body:
            document["body"] = body_document(receipt.body)
    return document


def _text(row: SpoolRow, receipt: Receipt | None, *, headers: bool, body: bool) -> str:
    lines = [f"delivery {row.id}: {'waits for the log' if row.refused is None else 'refused by the log'}"]
    known: list[tuple[str, object]] = [
        ("source", _name(row)),
        ("reason", row.refused),
        ("received", exact(row.received_at)),
        ("size", f"{size(row.size)} in the spool"),
    ]
    if receipt is None:
        known.append(("content", "cannot be read: the disk damaged it, or a newer Headrace wrote it"))
    else:
        facts: dict[str, Any] = msgspec.json.decode(receipt.metadata)
        known += [(name.replace("_", " "), value) for name, value in facts.items()]
    lines += [f"  {name:<12} {printable(str(value))}" for name, value in known if value is not None]
    if receipt is not None and headers:
        lines += ["", "headers", *(f"  {name}: {printable(value)}" for name, value in decode_headers(receipt.headers))]
    if receipt is not None and body:
        lines += ["", "body", printable(receipt.body.decode("utf-8", "replace"))]
    return "\n".join(lines)
