"""What docs/ingest.md shows can be typed: its sources parse, its settings and commands exist, links lead somewhere."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rich_click as click

from events.settings import Settings
from executor.cli.main import _COMMANDS
from executor.workflow.graph import load_yaml
from ingest.definition import SourceDefinition
from ingest.parsing import _KEYS, parse_source

ROOT = Path(__file__).parents[2]
INGEST = (ROOT / "docs" / "ingest.md").read_text(encoding="utf-8")
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/ingest.md", "docs/deploy.md")}

COMMAND = r"(?:(?:^|\$ |bin/|#.*`)headrace|^docker compose run .*cli|^cli) ([a-z]+)\b([^`]*)"
NO_SETTINGS = {"HEADRACE_PORT", "HEADRACE_TAG", "HEADRACE_TEST_COMPOSE", "HEADRACE_CONFIG"}
"""Variables of compose.yaml, of the tests and of the loader; `HEADRACE_NAME` stands for any."""


def sources() -> list[dict[str, Any]]:
    """All that stand in the page, by block and document, and README's."""
    blocks = re.findall(r"^ *```yaml\n(.*?)^ *```", INGEST + PAGES["README.md"], re.DOTALL | re.MULTILINE)
    return [document for block in blocks for document in load_yaml(block) if "source" in document]


@pytest.mark.parametrize("document", sources(), ids=lambda document: document["source"])
def test_each_source_can_be_applied(document: dict[str, Any]) -> None:
    assert isinstance(parse_source(document), SourceDefinition)


def test_the_example_has_every_key_that_it_says_and_the_table_has_all() -> None:
    (first, *_) = sources()
    assert {"options", "split"} == set(_KEYS) - set(first)
    table = INGEST.partition("| key | what it says |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(_KEYS)


def test_the_secrets_in_the_steps_are_a_list_of_secrets() -> None:
    (line,) = re.findall(r"`(secrets: \[.*?\])`", INGEST)
    (found,) = load_yaml(f"source: shop\npreset: github\n{line}")
    assert len(parse_source(found).secrets) == 2


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"HEADRACE_[A-Z_]+[A-Z]", PAGES[page])) - NO_SETTINGS
    settings = {f"HEADRACE_{name.upper()}" for name in Settings.__struct_fields__}
    assert named <= settings, named - settings


def test_every_setting_of_ingest_is_on_its_page() -> None:
    names = ("body_", "header_", "connections", "trusted_", "public_", "spool_", "rejected_", "append_")
    for name in Settings.__struct_fields__:
        if name.startswith(names):
            assert f"HEADRACE_{name.upper()}`" in INGEST, name


@pytest.mark.parametrize(
    ("setting", "shown"), re.findall(r"^\| `HEADRACE_(\w+)` \| `([^`]+)` \|", INGEST, re.MULTILINE), ids=str
)
def test_defaults_are_those_of_the_settings(setting: str, shown: str) -> None:
    from events.settings import _convert  # noqa: PLC0415 - as the loader reads what an operator types

    default = getattr(Settings(), setting.lower())
    assert _convert(setting.lower(), shown, type(default)) == default


def code(page: str) -> Iterator[str]:
    """What stands in the page as code, line by line: blocks, and what stands between backticks."""
    text = []
    fenced = False
    for line in PAGES[page].splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced:
            yield line
        else:
            text.append(line)
    yield from re.findall(r"`([^`]+)`", "\n".join(text))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_named_exists_with_its_options(page: str) -> None:
    typed = [found for line in code(page) for found in re.findall(COMMAND, line)]
    assert typed
    for name, rest in typed:
        assert name in _COMMANDS, f"{name}{rest}"
        command: click.Command = getattr(importlib.import_module(f"executor.cli.{_COMMANDS[name][0]}"), name)
        words = rest.partition("#")[0].split()
        if isinstance(command, click.Group):
            assert words, f"{name}: which of its commands?"
            assert words[0] in command.commands, f"{name} {words[0]}"
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, f"{name}{rest}"


def test_links_lead_to_pages_and_files_exist() -> None:
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"
    for file in re.findall(r"`((?:ingest|tests|events|deploy)/[\w./]+\.\w+)`", INGEST):
        assert (ROOT / file).exists(), file
