"""Definition files: all faults of all files at once, each with its place; no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.errors import ConfigError
from executor.cli.definition_files import Definitions, definition_files, read_definitions, unknown_sources, without_url
from executor.engine.registry import Registry

SPECS = Registry.load().specs()
GOOD = """
source: shop
preset: generic
secrets: [{env: SHOP_SECRET}]
---
endpoint: crm
url: https://crm.example/hooks
secret: {env: CRM_SECRET}
---
workflow: count
on: [{source: shop, type: order.*}]
nodes:
  count: {uses: transform, with: {value: "${{ event.body.order }}"}}
"""
ENVIRON = {"SHOP_SECRET": "s3cret", "CRM_SECRET": "whsec_c2VjcmV0"}


def _read(tmp_path: Path, *texts: str) -> Definitions:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(text)
    return read_definitions(files, ENVIRON, SPECS)


def _faults(tmp_path: Path, *texts: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        _read(tmp_path, *texts)
    return [fault.replace(f"{tmp_path}/", "") for fault in error.value.faults]


def test_each_document_says_what_it_is(tmp_path: Path) -> None:
    read = _read(tmp_path, GOOD)
    assert [(one.definition.source, one.secrets) for one in read.sources] == [("shop", (b"s3cret",))]
    assert [(one.name, one.url, one.secret) for one in read.endpoints] == [
        ("crm", "https://crm.example/hooks", b"whsec_c2VjcmV0")
    ]
    assert [(one.name, one.sources, len(one.hash)) for one in read.workflows] == [("count", ("shop",), 32)]


def test_all_faults_of_all_files_come_at_once(tmp_path: Path) -> None:
    faults = _faults(
        tmp_path,
        "source: shop\npreset: generik\n---\nendpoint: crm\nurl: ftp://x\nextra: 1\n",
        "workflow: w\nnodes: {a: {uses: transfrom, needs: [b]}}\n",
        "a: [1\n",
        "thing: 1\n",
    )
    text = "\n".join(faults)
    assert "0.yaml, document 1: preset: expected one of" in text
    assert "did you mean generic?" in text
    assert "0.yaml, document 2: url: expected an http(s) URL, got 'ftp://x'" in text
    assert "0.yaml, document 2: extra: expected one of endpoint, url, secret, got an unknown key" in text
    assert "1.yaml: nodes.a" in text
    assert "2.yaml: line" in text
    assert "3.yaml: document: expected source:, endpoint: or workflow:, got {thing}" in text


def test_a_definition_stands_once(tmp_path: Path) -> None:
    assert _faults(tmp_path, GOOD, "source: shop\npreset: none\n") == [
        "1.yaml: source: shop: expected it once, got it in "
        + f"{tmp_path}/0.yaml, document 1 too".replace(f"{tmp_path}/", "")
    ]


def test_no_fault_shows_a_secret(tmp_path: Path) -> None:
    faults = _faults(
        tmp_path,
        "source: a\npreset: standard\nsecrets: ['%%hidden%%']\n",
        "endpoint: b\nurl: https://b.example\nsecret: 'whsec_%%hidden%%'\n",
        "endpoint: c\nurl: https://c.example\nsecret: {env: NOT_THERE}\n",
    )
    assert len(faults) == 3
    assert "hidden" not in "".join(faults)
    assert faults[2] == "2.yaml: secret: expected a value in the environment variable NOT_THERE, got none"


def test_a_trigger_names_a_source_that_is_there(tmp_path: Path) -> None:
    workflow = "workflow: w\non: [{source: shop}, {source: nix}]\nnodes: {a: {uses: transform, with: {value: 1}}}\n"
    read = _read(tmp_path, workflow)
    assert unknown_sources(read, {"shop", "nix"}) == []
    faults = unknown_sources(read, {"shop"})
    assert [fault.replace(f"{tmp_path}/", "") for fault in faults] == [
        "0.yaml: on[].source: expected a source that exists or is applied here, got 'nix'"
    ]


def test_a_directory_is_all_its_files(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.json", "notes.txt"):
        (tmp_path / name).write_text("")
    assert [file.name for file in definition_files([tmp_path, tmp_path / "a.yml"])] == [
        "a.yml",
        "b.yaml",
        "c.json",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as error:
        definition_files([tmp_path / "empty", tmp_path / "nix.yaml"])
    assert ["a directory without any" in error.value.faults[0], "no such file" in error.value.faults[1]] == [
        True,
        True,
    ]


@pytest.mark.parametrize("name", ["dev.yaml", "demo.yaml"])
def test_the_examples_are_right(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[3] / "executor/demo" / name).read_text().replace("SINK/", "http://127.0.0.1:1/")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".headrace").mkdir()
    for key in ("hello.key", "github.secret"):
        (tmp_path / ".headrace" / key).write_text("key")
    (tmp_path / name).write_text(text)
    names = ("GITHUB", "STRIPE", "SHOP", "SINK")
    read = read_definitions([tmp_path / name], {f"DEMO_{one}_SECRET": "key" for one in names}, SPECS)
    assert read.workflows
    assert unknown_sources(read, set()) == []


def test_a_sender_that_signs_the_url_needs_one(tmp_path: Path) -> None:
    file = tmp_path / "square.yaml"
    file.write_text("{source: till, preset: square, secrets: [s]}")
    (fault,) = without_url(read_definitions([file], {}, {}))
    assert fault.startswith("source till: url: expected the URL as its sender knows it")
    file.write_text("{source: till, preset: square, secrets: [s], url: https://hooks.example.com/in/till}")
    assert without_url(read_definitions([file], {}, {})) == []
