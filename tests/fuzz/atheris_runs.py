"""Runs all targets of the parsers under atheris, one after the other, and tells what they reached."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

TARGETS = (
    "pointers",
    "keys",
    "batches",
    "signatures",
    "contents",
    "codings",
    "forms",
    "traceparents",
    "greetings",
    "definitions",
)
"""The names in `tests.fuzz.parsers`, which is not imported here: atheris has to see it being imported."""

_REACHED = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)")


def fuzz_parsers(seconds: float, corpus: Path | None = None) -> list[str]:
    """Runs each target for its share of the time; the findings.

    Args:
        corpus: where inputs that reach something are kept between runs; None: nowhere.
    """
    if find_spec("atheris") is None:
        print("LEFT OUT: the parsers under atheris, which is not installed (the extra `fuzz`)")
        return []
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in TARGETS:
            share = max(1, int(seconds / len(TARGETS)))
            folder = (corpus or Path(scratch)) / name
            command = [sys.executable, "-m", "tests.fuzz.atheris_parsers", name, str(share), str(folder)]
            run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
            reached = _REACHED.findall(run.stderr)
            executed, lines, features = reached[-1] if reached else ("0", "0", "0")
            print(f"{int(executed):>11,}  inputs for {name}: {lines} lines, {features} features", flush=True)
            if run.returncode != 0 or not reached:
                findings.append(name)
                print(run.stdout[-4000:], run.stderr[-6000:], sep="\n", flush=True)
    return findings
