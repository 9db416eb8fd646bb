"""compose.yaml as it is: built, started, given work, hurt and stopped. For every container engine, on request only."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.containers import Containers, engine_answers

_WANTED = os.environ.get("HEADRACE_TEST_COMPOSE") == "1"
_ENGINE = _WANTED and engine_answers()
_WHY = "no container engine answers" if _WANTED else "HEADRACE_TEST_COMPOSE=1 was not given"

pytestmark = [
    pytest.mark.skipif(not _ENGINE, reason=f"LEFT OUT image, compose.yaml and logins of their own: {_WHY}"),
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first build fetches the images and all packages
]

SECRET = "a secret of the tests"
DEFINITIONS = """
source: hub
preset: github
secrets: [{env: HUB_SECRET}]
---
workflow: slow
on: [{source: hub}]
nodes:
  ask: {uses: http.request, with: {url: "http://receiver:8000/ask"}}
  say: {uses: transform, needs: [ask], with: {value: "${{ nodes.ask.output.status }}"}}
"""


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Everything up, a source and a workflow applied, a receiver and a collector beside it."""
    flows = tmp_path_factory.mktemp("flows")
    flows.chmod(0o755)  # the image's user is not ours
    (flows / "slow.yaml").write_text(DEFINITIONS)
    with Containers(tmp_path_factory.mktemp("compose")) as containers:
        containers.compose("up", "-d", "--build")
        containers.slow_receiver()
        containers.collector()
        containers.cli("apply", "/flows", options=("-v", f"{flows}:/flows:ro", "-e", f"HUB_SECRET={SECRET}"))
        containers.until(lambda: containers.inspect("ingest", ".State.Health.Status"), lambda it: it == "healthy")
        yield containers


def begun(containers: Containers) -> int:
    return containers.said("receiver").count("begun")


def test_nothing_starts_without_a_secret_key(containers: Containers, tmp_path: Path) -> None:
    env_file = tmp_path / "env"
    kept = {name: value for name, value in containers.settings.items() if name != "HEADRACE_SECRET_KEY"}
    env_file.write_text("".join(f"{name}={value}\n" for name, value in kept.items()))

    with pytest.raises(AssertionError, match=r"HEADRACE_SECRET_KEY.*expected 32 bytes in base64, got nothing"):
        containers.compose("config", env_file=env_file)


def test_every_process_has_a_login_of_its_own_and_a_root_it_cannot_write(containers: Containers) -> None:
    connected = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'headrace%'"
    logins = containers.execute("postgres", "psql", "-U", "postgres", "-d", "headrace", "-Atc", connected)
    mighty = (
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'headrace%' AND (rolsuper OR rolcreaterole OR rolbypassrls)"
    )

    assert set(logins.split()) == {"headrace_ingest", "headrace_worker", "headrace_relay", "headrace_operator"}
    assert containers.execute("postgres", "psql", "-U", "postgres", "-d", "headrace", "-Atc", mighty).strip() == "0"
    for service in ("ingest", "worker-high-priority", "worker-default", "worker-webhook", "relay", "console"):
        assert containers.execute(service, "id", "-u").strip() == "10001"
        assert containers.inspect(service, ".HostConfig.ReadonlyRootfs") == "true"
        environment = containers.inspect(service, ".Config.Env")
        assert containers.settings["POSTGRES_PASSWORD"] not in environment
        assert ("HEADRACE_SECRET_KEY" in environment) == (service != "relay")


def test_a_webhook_posted_to_the_published_port_is_worked_off_in_one_trace(containers: Containers) -> None:
    containers.send("hub", SECRET)

    (run,) = containers.until(containers.runs, lambda runs: [it["status"] for it in runs] == ["completed"])
    assert run["workflow"] == "slow"
    assert begun(containers) == 1
    whole = {"POST /in/{source}", "append", "route", "run slow", "node http.request", "GET"}
    containers.until(lambda: traces(containers), lambda seen: any(whole <= names for names in seen.values()))


def test_a_run_whose_worker_was_killed_is_finished_by_the_one_that_comes_after_it(containers: Containers) -> None:
    before = begun(containers)
    containers.send("hub", SECRET)
    containers.until(lambda: begun(containers), lambda count: count > before)
    containers.kill_worker("worker-webhook")

    containers.until(containers.runs, lambda runs: {it["status"] for it in runs} == {"completed"})
    assert begun(containers) == before + 2  # at least once: the request in flight went out again
    assert containers.inspect("worker-webhook", ".RestartCount") == "1"


def test_processes_that_are_told_to_stop_end_well(containers: Containers) -> None:
    containers.compose("stop")

    for service in ("ingest", "worker-high-priority", "worker-default", "worker-webhook", "relay", "migrate"):
        assert containers.inspect(service, ".State.ExitCode") == "0", service


def traces(containers: Containers) -> dict[str, set[str]]:
    """The names of all spans by trace, as the collector shows them."""
    seen: dict[str, set[str]] = defaultdict(set)
    for id, name in re.findall(
        r"Trace ID\s*: (\w+).*?\n\s*Name\s*: (.*?)\s*\n", containers.said("collector"), re.DOTALL
    ):
        seen[id].add(name)
    return seen
