"""How far something long is, on stderr: a bar on a terminal, else a line every two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import rich_click as click


class Progress:
    """How far it is, on stderr: a bar on a terminal, else a line every two seconds."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._said_at = time.monotonic()
        self._bar: object = None

    def __enter__(self) -> Callable[[int], None]:
        if not sys.stderr.isatty():
            return self._line
        from rich.console import Console  # noqa: PLC0415 - only a terminal pays for it
        from rich.progress import Progress as Bar  # noqa: PLC0415

        self._bar = bar = Bar(console=Console(stderr=True), transient=True)
        bar.start()
        task = bar.add_task(self._what, total=self._total)
        return lambda count: bar.update(task, completed=count)

    def __exit__(self, *_failure: object) -> None:
        if self._bar is not None:
            self._bar.stop()  # type: ignore[attr-defined]  # a rich Progress

    def _line(self, count: int) -> None:
        if time.monotonic() - self._said_at >= 2:
            self._said_at = time.monotonic()
            click.echo(f"{self._what} {count:,} of {self._total:,}", err=True)
