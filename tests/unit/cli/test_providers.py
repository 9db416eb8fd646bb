"""`headrace providers` lists every preset, for people and for programs."""

from __future__ import annotations

import json

import pytest

from executor.cli.main import main
from executor.cli.providers import place
from ingest.identity import First, Form, FormPointer, Header, OtherKey, Pointer, Query
from ingest.providers import PRESETS

NAMES = {
    "name",
    "title",
    "verifies",
    "id",
    "type",
    "handshake",
    "batch",
    "status",
    "methods",
    "secret",
    "needs_url",
    "options",
}


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["providers", *arguments])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_one_by_its_name_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "paypal", "github")
    assert "paypal: PayPal" in text
    assert "webhook_id: the webhook" in text
    assert "X-GitHub-Event + /action|form payload/action" in text
    assert "slack" not in text
    assert json.loads(said(capsys, "github", "--json"))["name"] == "github"


def test_an_unknown_name_is_a_clear_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["providers", "githb"])
    assert caught.value.code == 1
    assert "got 'githb'; did you mean github?" in capsys.readouterr().err


def test_programs_get_a_line_of_json_each_under_stable_names(capsys: pytest.CaptureFixture[str]) -> None:
    found = {one["name"]: one for one in map(json.loads, said(capsys, "--json").splitlines())}
    assert list(found) == list(PRESETS)
    assert all(set(one) == NAMES for one in found.values())
    assert found["slack"]["handshake"] is True
    assert found["adyen"]["batch"] is True
    assert found["okta"]["status"] == 204
    assert found["square"]["needs_url"] is True
    assert [one["secret"] for one in (found["github"], found["sns"], found["none"])] == [True, False, False]
    assert found["paypal"]["options"][0]["name"] == "webhook_id"
    assert found["github"]["id"] == "X-GitHub-Delivery"
    assert found["github"]["type"] == "X-GitHub-Event + /action|form payload/action"
    assert found["zoom"]["id"] == "hash of the body"


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys).splitlines()
    assert lines[0].split() == ["NAME", "PROVIDER", "VERIFIES", "MORE", "ANSWER"]
    assert [line.split()[0] for line in lines[1:]] == list(PRESETS)
    (paypal,) = [line for line in lines if line.startswith("paypal ")]
    assert "needs options.webhook_id" in paypal
    (hubspot,) = [line for line in lines if line.startswith("hubspot ")]
    assert "needs url, batches" in hubspot


def test_every_kind_of_place_has_words() -> None:
    locator = (
        First((Header("A", "B"), Pointer("/c"))),
        Query("d"),
        Form("e"),
        FormPointer("g", "/h"),
        OtherKey(("f",)),
    )
    assert place(locator) == "A|B|/c + ?d + form e + form g/h + the body's other key"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_in_words_how_it_verifies(name: str) -> None:
    scheme = PRESETS[name].scheme
    assert scheme.summary() != type(scheme).__name__
