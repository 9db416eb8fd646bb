"""What an apply changes about workflows: their documents line by line, and the runs that go on as they began."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from events import definitions
from events.database import Database
from events.definitions import Change, WorkflowRow

CONTEXT = 2
"""Lines around a difference."""


def difference(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The lines of a unified difference of two documents, as YAML."""
    texts = [yaml.safe_dump(dict(one), sort_keys=False, allow_unicode=True, width=100) for one in (before, after)]
    old, new = (text.splitlines() for text in texts)
    return list(difflib.unified_diff(old, new, f"{name} (applied)", f"{name} (here)", lineterm="", n=CONTEXT))


def changed(
    changes: Sequence[Change], before: Sequence[WorkflowRow], after: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """The differences of the workflows that an apply changes."""
    known = {row.name: row.document for row in before}
    for change in changes:
        if change.kind == "workflow" and change.what == "changed":
            yield from difference(change.name, known[change.name], after[change.name])


async def in_flight(database: Database, workspace: int, changes: Sequence[Change], *, dry_run: bool) -> list[str]:
    """A line for each older version of a changed workflow that runs go on with (of a dry run: would go on with)."""
    lines = []
    for change in changes:
        if change.kind == "workflow" and change.what == "changed":
            for one in await definitions.versions(database, change.name, workspace):
                if one.open and (dry_run or not one.current):
                    runs = f"{one.open:,} {'run stays' if one.open == 1 else 'runs stay'}"
                    lines.append(f"{change.name}: {runs} on version {one.hash.hex()[:16]}, as begun")
    return lines
