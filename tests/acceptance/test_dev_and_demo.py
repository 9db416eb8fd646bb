"""`headrace demo` and `headrace dev` as they are typed: what they say is so, and nothing stays behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from executor.cli.children import port_is_free
from executor.cli.embedded import scratch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
COMMAND = (sys.executable, "-m", "executor.cli.main")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the embedded PostgreSQL can live in, also for root; temporary files go there too."""
    with scratch() as directory:
        (directory / "tmp").mkdir(mode=0o755)
        yield directory


def _begin(place: Path, arguments: Sequence[str]) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environ |= {"TMPDIR": str(place / "tmp"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=place,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _command(place: Path, *arguments: str) -> tuple[int, str, str]:
    process = _begin(place, arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def _left_in(place: Path) -> list[str]:
    """What is left in the temporary directory, but for the copy of PostgreSQL's programs that root needs."""
    return [name for name in os.listdir(place / "tmp") if not name.startswith("headrace-postgres-")]


def test_the_demo_loses_nothing_and_leaves_nothing(place: Path) -> None:
    process = _begin(place, ["demo", "--count", "60"])
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    # 60 deliveries; the shop's larger orders have two runs each; one run is replayed
    assert out.splitlines()[-1] == ("demo: 60 acknowledged, 60 in the log, 91 runs finished, 0 lost, 0 duplicated")
    assert "kill -9" in err
    assert "FLUSHALL" in err
    assert _left_in(place) == []


def test_an_interrupted_demo_leaves_nothing_either(place: Path) -> None:
    process = _begin(place, ["demo"])
    assert process.stderr is not None
    for line in process.stderr:
        if "sending" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert _left_in(place) == []


def test_dev_runs_until_ctrl_c_and_finds_its_data_again(place: Path) -> None:
    ids = set()
    for turn in range(2):
        process = _begin(place, ["dev"])
        try:
            shown = _until_ready(process)
            pasted = re.search(r"^ +(curl .*)$", shown, re.MULTILINE)
            assert pasted is not None
            if shutil.which("curl"):
                answer = subprocess.run(
                    ["bash", "-c", f"{pasted[1]} -H 'X-Delivery-Id: {turn}'"],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                assert '"duplicate":false' in answer.stdout, answer.stdout + answer.stderr
            else:
                assert _command(place, "send", "--source", "hello")[0] == 0
            status, _, err = _command(place, "dev")
            assert status == 1
            assert f"in use by another headrace (pid {process.pid})" in err
            status, out, err = _command(place, "events", "--json")
            assert status == 0, err
            assert len(out.splitlines()) == turn + 1
            port = re.search(r"http://127\.0\.0\.1:(\d+)/in", shown)
            assert port is not None
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert process.returncode == 0
        assert port_is_free(int(port[1]), 5.0)
        ids.add(pasted[1].partition("Bearer ")[2])
    assert len({key.partition("'")[0] for key in ids}) == 1


def _until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if "Ctrl-C" in line:
            return shown
    assert process.stderr is not None
    raise AssertionError(f"dev ended:\n{shown}{process.stderr.read()}")
