"""The judges that exist for Node only: one process of `node/judge.mjs`, asked and answered line by line.

Promises: what is installed is what `node/package-lock.json` says, by hash, and no package's script runs. Where there is
no Node, tests are skipped with one reason that says which vendors went unjudged; elsewhere a judge that cannot answer
fails its test, and never counts as one that refuses.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.vendors.vendor import Delivery, OnNode

HERE = Path(__file__).parent / "node"
LOCK = HERE / "package-lock.json"
INSTALLED = HERE / "node_modules" / ".judged-by"
VENDORS = "discord, github (its own SDK), linear, paddle, shopify, sns, telegram, x, zoom"


class Judge:
    """A running judge. Not for several threads."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def accepts(self, node: OnNode, delivery: Delivery, secret: str, now: float) -> bool:
        """Whether the SDK lets a delivery pass at a time, in Unix seconds."""
        question = {"judge": node.judge, "secret": secret, "now": now, "certificate": node.certificate}
        body = b64encode(delivery.body).decode()
        return bool(self._ask({**question, "headers": delivery.seen(), "body": body})["verdict"])

    def answer(self, judge: str, secret: str, **challenge: Any) -> Any:
        """What the SDK would answer a challenge."""
        return self._ask({"judge": judge, "secret": secret, "challenge": True, **challenge})["answer"]

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"expected an answer of judge {question['judge']}, got the end of {HERE.name}/judge.mjs"
        reply: dict[str, Any] = json.loads(line)
        assert "broken" not in reply, reply["broken"]
        return reply


def start() -> subprocess.Popen[str]:
    """The judges' process, installed first where that is needed. Skips, or fails, where that cannot be."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip(f"no node and npm here: NOT JUDGED by their vendors' SDKs: {VENDORS}")
    _install(npm)
    return subprocess.Popen(
        [node, "judge.mjs"],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _install(npm: str) -> None:
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    with LOCK.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # another run of the tests may be at it in the same tree
        if INSTALLED.exists() and INSTALLED.read_text() == wanted:
            return
        command = [npm, "ci", "--ignore-scripts", "--omit=optional"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode == 0:
            INSTALLED.write_text(wanted)
        elif os.environ.get("CI"):
            pytest.fail(f"npm ci failed:\n{done.stderr[-2000:]}")
        else:
            pytest.skip(f"npm ci failed: NOT JUDGED by their vendors' SDKs: {VENDORS}\n{done.stderr[-500:]}")
