"""The `headrace` command against a whole system: processes of its own, a real database, a real Redis."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from events.errors import HeadraceError
from executor.cli.children import free_port
from executor.cli.main import main
from executor.cli.supervisor import Supervisor
from tests.services import Services

DEFINITIONS = """
source: shop
preset: generic
secrets: [{value: first-secret}]
---
source: quiet
preset: none
---
endpoint: crm
url: https://crm.example/hooks
secret: {value: key}
---
workflow: bill
on: [{source: shop, type: order.paid, if: event.body.amount > 10}]
nodes:
  total: {uses: transform, with: {value: "${{ event.body.amount * 2 }}"}}
  large: {uses: transform, needs: [total], if: nodes.total.output > 1000, with: {value: 1}}
"""

Headrace = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def system(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A running system; its settings are where commands in its parent directory look."""
    directory = tmp_path_factory.mktemp("system") / ".headrace"
    with services.database() as url, Supervisor(directory) as supervisor:
        supervisor.configure(
            {
                "database_url": url,
                "redis_url": services.redis_database(),
                "state_redis_url": services.redis_database(),
                "secret_key": base64.b64encode(os.urandom(32)).decode(),
                "ingest_port": free_port(),
                "lease": 3,
                "log_format": "json",
            },
            {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
        )
        supervisor.start()
        yield supervisor
        supervisor.stop()  # before its database goes


@pytest.fixture
def headrace(system: Supervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Headrace:
    """Types a command; answers status, stdout and stderr."""
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(system.directory.parent)

    def type_command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return type_command


@pytest.fixture
def applied(headrace: Headrace, tmp_path: Path) -> Path:
    """The definitions' file, applied."""
    file = tmp_path / "definitions.yaml"
    file.write_text(DEFINITIONS)
    assert headrace("apply", str(file))[0] == 0
    return file


def _lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 s"
        time.sleep(0.05)


def _paid(headrace: Headrace, tmp_path: Path, amount: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A new delivery, and the run that it led to once that has ended."""
    payload = {"event": "order.paid", "payload": {"amount": amount}}
    (tmp_path / "paid.jsonl").write_text(json.dumps(payload))
    status, _, err = headrace("send", "--source", "shop", "--payloads", str(tmp_path / "paid.jsonl"))
    assert (status, err) == (0, "")
    delivery = _lines(headrace("events", "--limit", "1", "--json")[1])[0]
    run: list[dict[str, Any]] = []

    def ended() -> bool:
        run[:] = _lines(headrace("runs", "--limit", "1", "--json")[1])
        return bool(run) and run[0]["delivery_id"] == delivery["id"] and run[0]["ended_at"] is not None

    _until(ended)
    return _lines(headrace("events", "--limit", "1", "--json")[1])[0], run[0]


def test_a_fault_anywhere_changes_nothing(headrace: Headrace, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("source: never\npreset: none\n")
    bad.write_text("source: x\npreset: generik\n---\nworkflow: w\nnodes: {a: {uses: transfrom}}\n")
    status, out, err = headrace("apply", str(good), str(bad))
    assert (status, out) == (1, "")
    assert f"{bad}, document 1: preset: expected one of" in err
    assert f"{bad}, document 2: nodes.a" in err
    assert headrace("apply", str(good), "--json")[1] == '{"kind":"source","name":"never","what":"added"}\n'


def test_a_trigger_on_a_source_that_is_nowhere_is_a_fault(headrace: Headrace, tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text("workflow: w\non: [{source: nowhere}]\nnodes: {a: {uses: transform, with: {value: 1}}}\n")
    status, _, err = headrace("apply", str(file))
    assert status == 1
    assert "expected a source that exists or is applied here, got 'nowhere'" in err
    assert err.count("\n") == 1


def test_applying_again_changes_nothing_and_a_new_secret_does(headrace: Headrace, applied: Path) -> None:
    status, out, _ = headrace("apply", str(applied), "--json")
    assert status == 0
    assert {change["name"]: change["what"] for change in _lines(out)} == dict.fromkeys(
        ("shop", "quiet", "crm", "bill"), "unchanged"
    )
    applied.write_text(DEFINITIONS.replace("{value: key}", "{value: other}").replace("* 2", "* 3"))
    changed = {change["name"]: change["what"] for change in _lines(headrace("apply", str(applied), "--json")[1])}
    assert changed == {"shop": "unchanged", "quiet": "unchanged", "crm": "changed", "bill": "changed"}


@pytest.mark.usefixtures("applied")
def test_what_is_sent_is_shown_with_all_that_came_of_it(headrace: Headrace, tmp_path: Path) -> None:
    delivery, run = _paid(headrace, tmp_path, 600)
    assert (delivery["source"], delivery["type"], delivery["state"]) == ("shop", "order.paid", "routed")
    assert delivery["size"] == len('{"amount": 600}')
    document = json.loads(headrace("events", delivery["id"], "--json", "--body", "--headers")[1])
    assert document["body"] == {"json": {"amount": 600}}
    assert [event["type"] for event in document["events"]] == ["delivery.routed"]
    assert [(one["id"], one["status"]) for one in document["runs"]] == [(run["id"], "completed")]
    assert document["work"] == []
    history = json.loads(headrace("runs", run["id"], "--json")[1])
    assert [event["type"] for event in history["events"]] == [
        "run.started",
        "node.completed",
        "node.completed",
        "run.completed",
    ]
    text = headrace("runs", run["id"])[1]
    assert "total: completed (attempt 1" in text
    assert f"{run['id']}  bill  completed after" in headrace("events", delivery["id"])[1]


@pytest.mark.usefixtures("applied")
def test_lists_filter_and_go_on_before_an_id(headrace: Headrace, tmp_path: Path) -> None:
    for amount in (20, 30, 40):
        _paid(headrace, tmp_path, amount)
    newest = _lines(headrace("runs", "--json", "--workflow", "bill", "--status", "completed", "--limit", "3")[1])
    assert len(newest) == 3
    assert [run["id"] for run in newest] == sorted((run["id"] for run in newest), reverse=True)
    rest = _lines(headrace("runs", "--json", "--limit", "2", "--before", newest[0]["id"])[1])
    assert [run["id"] for run in rest] == [run["id"] for run in newest[1:]]
    assert headrace("runs", "--workflow", "nix") == (0, "", "no runs\n")
    assert "RECEIVED" in headrace("events")[1]


@pytest.mark.usefixtures("applied")
def test_a_replay_prints_the_id_of_the_new_run_and_nothing_else(headrace: Headrace, tmp_path: Path) -> None:
    delivery, run = _paid(headrace, tmp_path, 50)
    for id in (delivery["id"], run["id"]):
        status, out, err = headrace("replay", id, "--reason", "once more")
        assert status == 0, err
        assert out.strip() != run["id"]
        again = json.loads(headrace("runs", out.strip(), "--json")[1])
        assert (again["workflow"], again["delivery_id"]) == ("bill", delivery["id"])
        assert again["replay_of"] is not None
        assert "replayed by bill" in err
    history = headrace("events", delivery["id"])[1]
    assert history.count("replay asked for by") == 2
    assert "once more" in history


@pytest.mark.usefixtures("applied")
def test_a_replay_that_no_workflow_wants_says_so(headrace: Headrace, tmp_path: Path) -> None:
    assert headrace("send", "--source", "quiet", "--event", "nothing")[0] == 0
    delivery = _lines(headrace("events", "--limit", "1", "--json")[1])[0]
    status, out, err = headrace("replay", delivery["id"])
    assert (status, out) == (1, "")
    assert "no workflow wants this delivery" in err
    _until(lambda: _lines(headrace("events", "--limit", "1", "--json")[1])[0]["state"] == "unwanted")


@pytest.mark.usefixtures("applied")
def test_ids_that_are_nowhere_or_elsewhere_are_one_clear_line(headrace: Headrace, tmp_path: Path) -> None:
    delivery, run = _paid(headrace, tmp_path, 60)
    unknown = "019a1b2c-3d4e-7f50-8a6b-7c8d9e0f1a2b"
    for arguments, said in (
        (("events", unknown), "no delivery has the id"),
        (("runs", unknown), "no run has the id"),
        (("replay", unknown), "no delivery and no run has the id"),
        (("events", run["id"]), f"it is a run: headrace runs {run['id']}"),
        (("runs", delivery["id"]), f"it is a delivery: headrace events {delivery['id']}"),
        (("send", "--source", "nix"), "no source has the name 'nix'"),
    ):
        status, out, err = headrace(*arguments)
        assert (status, out) == (1, "")
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.usefixtures("applied")
def test_what_is_refused_is_counted_and_fails(headrace: Headrace) -> None:
    status, out, err = headrace(
        "send",
        "--source",
        "shop",
        "--secret",
        "wrong",
        "--preset",
        "generic",
        "--count",
        "3",
        "--url",
        _url(),
        "--json",
    )
    counts = json.loads(out)
    assert (status, counts["sent"], counts["accepted"], counts["refused"]) == (1, 3, 0, 3)
    assert "3 of 3 were not acknowledged; the first: 401" in err


def _url() -> str:
    settings = tomllib.loads(Path(".headrace/dev.toml").read_text())
    return f"http://127.0.0.1:{settings['ingest_port']}"


@pytest.mark.usefixtures("applied")
def test_a_killed_worker_comes_back_and_its_work_is_done(
    headrace: Headrace, system: Supervisor, tmp_path: Path
) -> None:
    before = system.kill("worker-webhook")
    _until(lambda: system.pid("worker-webhook") not in (0, before))
    _paid(headrace, tmp_path, 70)


@pytest.mark.usefixtures("applied")
def test_a_replay_without_a_worker_waits_in_the_database(
    headrace: Headrace, system: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery, _ = _paid(headrace, tmp_path, 80)
    pid = system.pid("worker-high_priority")
    os.kill(pid, signal.SIGSTOP)  # a worker that is there and does nothing
    try:
        monkeypatch.setenv("HEADRACE_REDIS_URL", "redis://127.0.0.1:1/0")  # nor is there a Redis
        status, out, err = headrace("replay", delivery["id"], "--wait", "200ms")
        assert (status, out) == (1, "")
        assert "no doorbell" in err
        assert "no worker took the replay within 0.2 s; it will run when one serves high_priority" in err
        assert "still to do" in headrace("events", delivery["id"])[1]
    finally:
        os.kill(pid, signal.SIGCONT)
    _until(lambda: "still to do" not in headrace("events", delivery["id"])[1])


def test_a_directory_has_one_supervisor(system: Supervisor) -> None:
    with (
        pytest.raises(HeadraceError, match=rf"in use by another headrace \(pid {os.getpid()}\)"),
        Supervisor(system.directory),
    ):
        pass
