"""`headrace version`: the same as `headrace --version`."""

from __future__ import annotations

from importlib.metadata import version as installed

import rich_click as click


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"headrace {installed('headrace')}")
