"""What the commands share: settings, the operator's way to PostgreSQL, ids as arguments, tables, and JSON.

Tables are plain text with aligned columns, so that they can be searched and cut. JSON has stable field names,
times in Unix seconds, and one object per line in lists.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import rich_click as click

from events.database import Database
from events.errors import ConfigError, Unavailable
from events.settings import Settings, load_settings


def settings_of(**overrides: Any) -> Settings:
    """The settings of this command.

    Raises:
        ConfigError: with every fault; a missing `database_url` says what to do about it.
    """
    settings = load_settings(os.environ, **overrides)
    if not settings.database_url:
        fault = "database_url: expected postgresql://…, got nothing; set HEADRACE_DATABASE_URL"
        raise ConfigError("settings", [f"{fault}, or type this where `headrace dev` was started"])
    return settings


@contextlib.asynccontextmanager
async def operator(settings: Settings) -> AsyncIterator[Database]:
    """The log, in the role `operator`.

    Raises:
        Unavailable: PostgreSQL cannot be reached.
    """
    database = Database(settings.database_url, "operator", timeout=10.0)
    try:
        try:
            await database.open()
        except Unavailable as error:
            raise Unavailable(f"{error}; is PostgreSQL running? (`headrace dev` starts one)") from error
        yield database
    finally:
        await database.close()


in_workspace = click.option(
    "--workspace", metavar="NAME", help="Of this workspace; HEADRACE_WORKSPACE says it for all commands."
)


def settings_in(workspace: str | None) -> Settings:
    """The settings of a command with `--workspace`."""
    return settings_of() if workspace is None else settings_of(workspace=workspace)


class Id(click.ParamType[UUID]):
    """An argument that names a delivery, a run or a replay."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        """The UUID that the text is."""
        if isinstance(value, UUID):
            return value
        try:
            return UUID(value)
        except ValueError:
            self.fail(f"expected an id such as 019a1b2c-3d4e-7f50-8a6b-7c8d9e0f1a2b, got {value!r}", param, ctx)


def print_json(value: Any) -> None:
    """One line of JSON on stdout."""
    click.echo(msgspec.json.encode(value).decode())


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns; those that hold numbers are flush right."""
    lines = [list(headers), *([_cell(value) for value in row] for row in rows)]
    columns = []
    for number, texts in enumerate(zip(*lines, strict=True)):
        width = max(len(text) for text in texts)
        right = bool(rows) and all(isinstance(row[number], int) for row in rows)
        columns.append([text.rjust(width) if right else text.ljust(width) for text in texts])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def moment(at: float) -> str:
    """A time for people: local, to the second."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def exact(at: float) -> str:
    """A time for people: local, to the millisecond, with how long ago it was."""
    local = datetime.fromtimestamp(at).astimezone()
    return f"{local.isoformat(sep=' ', timespec='milliseconds')} ({span(max(0.0, time.time() - at))} ago)"


def span(seconds: float) -> str:
    """A length of time for people: `12 ms`, `3.2 s`, `5 min`, `4.0 h`, `3.1 d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, unit, length in ((60.0, "s", 1.0), (3600.0, "min", 60.0), (86400.0, "h", 3600.0)):
        if seconds < limit:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"


def size(octets: int) -> str:
    """An amount of bytes for people: `312 B`, `7.1 KB`, `2.0 MB`."""
    if octets < 1024:
        return f"{octets} B"
    return f"{octets / 1024:.1f} KB" if octets < 1 << 20 else f"{octets / (1 << 20):.1f} MB"
