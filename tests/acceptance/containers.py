"""compose.yaml for tests: a project of its own, with its own secrets and port, gone at the end.

with Containers(directory) as containers:
    containers.compose("up", "--build", "-d")
    containers.cli("runs", "--json")
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.collector import _rotel, free_port
from tests.services import ROOT, _answers

PATIENCE = 90.0
IMAGE = "python:3.13-slim"
ROLES = ("INGEST", "WORKER", "RELAY", "OPERATOR")
# Says "begun" for every request, and answers four seconds later.
SLOW_RECEIVER = """
import http.server, time
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("begun", self.path, flush=True)
        time.sleep(4)
        self.send_response(204)
        self.end_headers()
http.server.ThreadingHTTPServer(("", 8000), Slow).serve_forever()
"""
# The worker itself and not the container, which the engine would then take for stopped on purpose.
KILL_WORKER = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"

Seen = TypeVar("Seen")


def engine_answers() -> bool:
    """Whether containers can be run here: an engine, and a compose command."""
    return _answers(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")) and bool(_compose_command())


def _compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            answer = subprocess.run([*command, "version"], check=False, capture_output=True)
            if answer.returncode == 0:
                return command
    return []


class Containers:
    """One project. Everything it made goes at the end of the `with` block."""

    def __init__(self, directory: Path) -> None:
        self.project = f"headracetest{secrets.token_hex(3)}"
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._beside: list[str] = []
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HEADRACE_", "OTEL_", "POSTGRES_"))
        }
        self.settings = {
            "HEADRACE_SECRET_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "POSTGRES_PASSWORD": secrets.token_hex(16),
            **{f"HEADRACE_{role}_PASSWORD": secrets.token_hex(16) for role in ROLES},
            "HEADRACE_PORT": str(port),
            "HEADRACE_LEASE": "3s",
            "HEADRACE_EGRESS_ALLOW": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        }
        self._env_file = directory / "env"
        self._env_file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._beside:
            self._docker("rm", "-f", name)
        self.compose("--profile", "cli", "down", "-v", "--remove-orphans")

    def compose(self, *arguments: str, env_file: Path | None = None) -> str:
        """What a compose command prints on stdout.

        Raises:
            AssertionError: it failed; the message is its stderr.
        """
        options = ["--env-file", str(env_file or self._env_file), "-p", self.project, "-f", str(ROOT / "compose.yaml")]
        return self._run(*_compose_command(), *options, *arguments)

    def cli(self, *arguments: str, options: tuple[str, ...] = ()) -> str:
        """What the `headrace` command prints, in a container of its own that has the operator's login."""
        return self.compose("run", "--rm", "-T", *options, "cli", *arguments)

    def runs(self) -> list[dict[str, Any]]:
        """The newest runs."""
        return [json.loads(line) for line in self.cli("runs", "--json").splitlines()]

    def send(self, source: str, secret: str) -> None:
        """Posts one webhook, signed as GitHub does, to the published port, from outside of all containers."""
        options = ("--source", source, "--preset", "github", "--secret", secret, "--url", self.url)
        self._run(sys.executable, "-m", "executor.cli.main", "send", *options)

    def container(self, service: str) -> str:
        """The id of a service's one container, running or not."""
        found = self._docker("ps", "-aq", "--filter", self._label, "--filter", self._service(service))
        (id,) = found.split()
        return id

    def inspect(self, service: str, what: str) -> str:
        """A part of a container's description, for example `.State.Health.Status`."""
        return self._docker("inspect", "-f", f"{{{{{what}}}}}", self.container(service)).strip()

    def execute(self, service: str, *command: str) -> str:
        """What a command prints in a service's container."""
        return self._docker("exec", self.container(service), *command)

    def kill_worker(self, service: str) -> None:
        """SIGKILL for the worker process in a container."""
        self.execute(service, "python", "-c", KILL_WORKER)

    def beside(self, alias: str, network: str, *command: str, mount: tuple[str, ...] = ()) -> None:
        """Runs another container in one of the project's networks, under a name of its own there."""
        name = f"{self.project}_{alias}"
        where = ("--network", f"{self.project}_{network}", "--network-alias", alias)
        self._docker("run", "-d", "--name", name, *where, *mount, IMAGE, *command)
        self._beside.append(name)

    def slow_receiver(self) -> None:
        """http://receiver:8000 answers after four seconds."""
        self.beside("receiver", "outside", "python", "-c", SLOW_RECEIVER)

    def collector(self) -> None:
        """Rotel in the collector's place: a foreign OTLP receiver that needs no image of its own."""
        listen = ("--otlp-http-endpoint", "0.0.0.0:4318", "--otlp-grpc-endpoint", "0.0.0.0:4317")
        show = ("--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed")
        mount = ("-v", f"{_rotel()}:/rotel:ro")
        self.beside("collector", "stores", "/rotel", "start", *listen, *show, mount=mount)

    def said(self, alias: str) -> str:
        """The output of a container that stands beside the project."""
        return self._docker("logs", f"{self.project}_{alias}")

    def until(self, see: Callable[[], Seen], enough: Callable[[Seen], bool]) -> Seen:
        """Looks again until it is enough.

        Raises:
            AssertionError: it was not within `PATIENCE` seconds; the message is what was seen last.
        """
        ends_at = time.monotonic() + PATIENCE
        while not enough(seen := see()):
            assert time.monotonic() < ends_at, f"expected otherwise within {PATIENCE:g} s: {seen}"
            time.sleep(0.1)
        return seen

    @property
    def _label(self) -> str:
        return f"label=com.docker.compose.project={self.project}"

    @staticmethod
    def _service(name: str) -> str:
        return f"label=com.docker.compose.service={name}"

    def _docker(self, *arguments: str) -> str:
        return self._run("docker", *arguments)

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, check=False, env=self._environ, capture_output=True, text=True, timeout=600, cwd=ROOT
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"
        return done.stdout
