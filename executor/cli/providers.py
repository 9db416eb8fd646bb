"""`headrace providers`: whose webhooks a source can take, by the name that stands behind `preset:`."""

from __future__ import annotations

from typing import assert_never

import msgspec
import rich_click as click

from events.errors import ConfigError
from executor.cli.common import print_json, table
from executor.cli.short import shortened
from ingest.identity import First, Form, FormPointer, Header, Locator, OtherKey, Part, Pointer, Query
from ingest.providers import PRESETS, Preset
from ingest.reading import did_you_mean


class Option(msgspec.Struct):
    """What a source of the preset says under `options:`."""

    name: str
    what: str
    required: bool


class Provider(msgspec.Struct):
    """One preset, as `--json` shows it.

    Args:
        verifies: how, in a few words. `id` and `type`: where they stand, in the words of `place`.
        handshake: whether it asks something before it sends. `batch`: whether a delivery may hold many events.
        status: what an accepted delivery is answered. `methods`: those that deliver.
        secret: whether the source needs one. `needs_url`: whether the URL is signed, so that it must be known.
    """

    name: str
    title: str
    verifies: str
    id: str
    type: str
    handshake: bool
    batch: bool
    status: int
    methods: tuple[str, ...]
    secret: bool
    needs_url: bool
    options: list[Option]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per provider and line.")
def providers(*, names: tuple[str, ...], as_json: bool) -> None:
    """List the providers whose webhooks a source can take, or show all about some of them."""
    faults = [
        f"provider: expected one of those that `headrace providers` lists, got {name!r}{did_you_mean(name, PRESETS)}"
        for name in names
        if name not in PRESETS
    ]
    if faults:
        raise ConfigError("providers", faults)
    found = [described(name, PRESETS[name]) for name in names or PRESETS]
    if as_json:
        for one in found:
            print_json(one)
    elif names:
        click.echo("\n\n".join(_all_about(one) for one in found))
    else:
        rows = [(one.name, one.title, shortened(one.verifies), _more(one), one.status) for one in found]
        click.echo(table(["NAME", "PROVIDER", "VERIFIES", "MORE", "ANSWER"], rows))


def described(name: str, preset: Preset) -> Provider:
    """What there is to say about a preset."""
    return Provider(
        name=name,
        title=preset.title,
        verifies=preset.scheme.summary(),
        id=place(preset.id) or "hash of the body",
        type=place(preset.type),
        handshake=preset.handshake is not None,
        batch=preset.split is not None,
        status=preset.response.status,
        methods=preset.methods,
        secret=not preset.scheme.secretless,
        needs_url=preset.needs_url,
        options=[Option(option.name, option.what, option.required) for option in preset.options],
    )


def place(locator: Locator) -> str:
    """Where an id or a type stands: a header's name, a JSON Pointer, `?query`, `form field`; `|` is or, `+` is and."""
    return " + ".join(_part(part) for part in locator)


def _part(part: Part) -> str:
    match part:
        case Header(name=name, instead=instead):
            return f"{name}|{instead}" if instead else name
        case Pointer(path=path):
            return path
        case Query(name=name):
            return f"?{name}"
        case Form() | FormPointer():
            return f"form {part.field}{part.path if isinstance(part, FormPointer) else ''}"
        case OtherKey():
            return "the body's other key"
        case First(parts=parts):
            return "|".join(_part(one) for one in parts)
        case impossible:
            assert_never(impossible)


def _more(one: Provider) -> str:
    """What a source of the provider needs beside secrets, and what it does beside deliveries."""
    needs = [f"options.{option.name}" for option in one.options if option.required]
    needs += ["url"] if one.needs_url else []
    does = [word for word, so in (("greets", one.handshake), ("batches", one.batch)) if so]
    return ", ".join([*([f"needs {' and '.join(needs)}"] if needs else []), *does]) or "-"


def _all_about(one: Provider) -> str:
    rows = [
        ("verifies", one.verifies),
        ("id", one.id),
        ("type", one.type or "-"),
        ("methods", ", ".join(one.methods)),
        ("answer", one.status),
        ("greets", "yes" if one.handshake else "no"),
        ("batches", "yes" if one.batch else "no"),
        ("secrets", "at least one" if one.secret else "none"),
        ("url", "needed, because it is signed" if one.needs_url else "not needed"),
    ]
    rows += [("option", f"{option.name}: {option.what}") for option in one.options]
    return "\n".join([f"{one.name}: {one.title}", *(f"  {name:<12} {text}" for name, text in rows)])
