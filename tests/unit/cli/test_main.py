"""The command line itself: quick, and clear about what was typed wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest

from events.errors import ConfigError, HeadraceError
from executor.cli.main import main, one_line


def _type(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["evnts"], "no such command 'evnts'; did you mean events?"),
        (["--bogus"], "no such option"),
        (["worker"], "missing option '--queue'"),
        (["worker", "--queue", "fast"], "'fast' is not one of 'high_priority', 'default', 'webhook'"),
        (["events", "abc"], "expected an id such as"),
        (
            ["replay", "019a1b2c-3d4e-7f50-8a6b-7c8d9e0f1a2b", "--wait", "soon"],
            "expected a duration such as 30s",
        ),
        (["send", "--count", "3"], "missing option '--source'"),
        (["apply"], "missing argument 'FILE"),
    ],
)
def test_what_was_typed_wrong_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], typed: list[str], said: str
) -> None:
    status, out, err = _type(capsys, *typed)
    assert status == 2
    assert out == ""
    assert err.startswith("headrace: ")
    assert said in err.lower() or said in err
    assert err.count("\n") == 1


def test_an_error_is_one_line_and_status_1_and_a_trace_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_DATABASE_URL", "mysql://nowhere")
    status, out, err = _type(capsys, "events")
    assert (status, out) == (1, "")
    assert err.startswith("headrace: settings: database_url: expected postgresql://")
    assert err.count("\n") == 1
    status, _, err = _type(capsys, "--debug", "events")
    assert status == 1
    assert "Traceback" in err


def test_a_command_without_a_database_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.delenv("HEADRACE_DATABASE_URL", raising=False)
    monkeypatch.chdir(str(tmp_path))
    status, _, err = _type(capsys, "runs")
    assert status == 1
    assert "set HEADRACE_DATABASE_URL" in err
    assert "headrace dev" in err


def test_several_faults_are_a_line_each() -> None:
    assert one_line(ConfigError("settings", ["a: expected 1, got 2"])) == "settings: a: expected 1, got 2"
    assert one_line(ConfigError("settings", ["a", "b"])).splitlines() == ["settings: 2 faults", "  a", "  b"]
    assert one_line(HeadraceError("so it is")) == "so it is"


def test_help_and_version_load_no_driver_and_no_framework() -> None:
    code = (
        "import sys\n"
        "from executor.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = {'asyncpg', 'sqlalchemy', 'litestar', 'redis', 'dramatiq', 'uvicorn', 'cel'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for command in (
        "ingest",
        "worker",
        "relay",
        "migrate",
        "apply",
        "send",
        "events",
        "runs",
        "replay",
        "dev",
        "demo",
    ):
        assert command in done.stdout


@pytest.mark.parametrize("typed", ["version", "--version"])
def test_the_version_is_said(capsys: pytest.CaptureFixture[str], typed: str) -> None:
    status, out, _ = _type(capsys, typed)
    assert status == 0
    assert out.startswith("headrace ")
