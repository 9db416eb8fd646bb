"""docs/providers.md has a section for every preset, and what it tells people to apply can be applied."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.providers import PRESETS
from ingest.sources import parse_source

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
SECTIONS = dict(zip(*[iter(re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))
SOURCES = [
    (name, number, yaml.safe_load(block))
    for name, section in SECTIONS.items()
    for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL))
]


def test_every_preset_has_one_section_and_there_is_no_other() -> None:
    assert sorted(SECTIONS) == sorted(PRESETS)
    assert re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE) == list(SECTIONS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_section_shows_a_source_of_its_preset(name: str) -> None:
    assert [source["preset"] for section, _, source in SOURCES if section == name] != []


@pytest.mark.parametrize(
    ("name", "number", "source"), SOURCES, ids=lambda value: str(value) * (not isinstance(value, dict))
)
def test_a_source_of_the_page_can_be_applied(name: str, number: int, source: dict[str, Any]) -> None:
    definition = parse_source(source)
    assert definition.preset == name


@pytest.mark.parametrize("name", PRESETS)
def test_a_section_tells_the_answer_the_greeting_the_batch_and_the_signed_address(name: str) -> None:
    preset, section = PRESETS[name], SECTIONS[name]
    assert f"Answer {preset.response.status}" in section
    assert ("Greeting:" in section) is (preset.handshake is not None)
    assert bool(re.search(r"A batch|is a batch", section)) is (preset.split is not None)
    assert ("url: https://" in section) is preset.needs_url
    assert all(option.name in section for option in preset.options)
