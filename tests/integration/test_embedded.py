"""The embedded servers keep their data, port and password, and never outlive whoever started them."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from events.errors import HeadraceError, Unavailable
from executor.cli import binaries, files, servers
from executor.cli.embedded import EmbeddedPostgres, EmbeddedRedis, scratch
from tests.services import wait_for, with_path

AS_ROOT = os.geteuid() == 0

# Starts both servers below the directory it is given, says their process ids, and hangs.
PARENT = """
import sys, threading, time
from pathlib import Path
from executor.cli.embedded import EmbeddedPostgres, EmbeddedRedis
servers = EmbeddedPostgres(Path(sys.argv[1], "postgres")), EmbeddedRedis(Path(sys.argv[1], "redis"))
for server in servers:  # from threads that end at once: the servers belong to the process
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
print(*(server.pid for server in servers), flush=True)
time.sleep(600)
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with scratch() as path:
        yield path


@pytest.fixture
def postgres(directory: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(directory / "postgres")
    server.start()
    yield server
    server.stop("immediate")


@pytest.fixture
def valkey(directory: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(directory / "redis")
    server.start()
    yield server
    server.kill()


def query(url: str, statement: str) -> object:
    """Runs a statement; its first value."""

    async def run() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return wait_for(run())


def await_end(pid: int, patience: float = 15.0) -> bool:
    """Whether the process, not a child of ours, ends within `patience` seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], patience)[0])
    finally:
        os.close(descriptor)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert await_end(pid)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgres_comes_back_with_its_data_on_its_port(postgres: EmbeddedPostgres, mode: str) -> None:
    url = postgres.url
    query(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    postgres.stop("fast" if mode == "fast" else "immediate")
    assert postgres.pid == 0
    postgres.start()
    assert postgres.url == url
    assert query(url, "SELECT answer FROM kept") == 42


def test_postgres_recovers_from_kill_9(postgres: EmbeddedPostgres) -> None:
    url = postgres.url
    query(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    kill(postgres.pid)
    postgres.start()
    assert postgres.url == url
    assert query(url, "SELECT answer FROM kept") == 42


def test_postgres_is_set_up_as_promised(postgres: EmbeddedPostgres) -> None:
    for name, value in {
        "fsync": "on",
        "unix_socket_directories": "",
        "listen_addresses": "127.0.0.1",
    }.items():
        assert query(postgres.url, f"SHOW {name}") == value
    assert query(postgres.url, "SELECT pg_encoding_to_char(encoding) FROM pg_database LIMIT 1") == "UTF8"
    assert query(postgres.url, "SELECT upper('é')") == "É"
    assert query(postgres.database_url("template1"), "SELECT current_database()") == "template1"


def test_a_new_instance_finds_the_directory_as_the_last_one_left_it(
    postgres: EmbeddedPostgres, valkey: EmbeddedRedis
) -> None:
    postgres.stop()
    valkey.stop()
    postgres_again, valkey_again = EmbeddedPostgres(postgres.directory), EmbeddedRedis(valkey.directory)
    postgres_again.start()
    valkey_again.start()
    try:
        assert (postgres_again.url, valkey_again.url) == (postgres.url, valkey.url)
    finally:
        postgres_again.stop("immediate")
        valkey_again.kill()


@pytest.mark.parametrize("end", ["stop", "kill", "kill -9"])
def test_valkey_comes_back_with_its_data_on_its_port(valkey: EmbeddedRedis, end: str) -> None:
    url = valkey.database_url(3)
    with redis.Redis.from_url(url) as client:
        client.set("kept", "42")
    if end == "kill -9":
        kill(valkey.pid)
    else:
        getattr(valkey, end)()
    valkey.start()
    assert valkey.database_url(3) == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"42"


def test_valkey_without_persistence_begins_empty(directory: Path) -> None:
    server = EmbeddedRedis(directory / "redis", databases=200, persist=False)
    server.start()
    try:
        for expected in (None, None):
            with redis.Redis.from_url(server.database_url(199)) as client:
                assert client.get("gone") is expected
                client.set("gone", "yes")
            server.stop()
            server.start()
    finally:
        server.kill()


def test_both_ask_for_their_password_and_keep_it_private(postgres: EmbeddedPostgres, valkey: EmbeddedRedis) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(with_path(postgres.url.replace("postgres:", "postgres:x", 1), "postgres"), "SELECT 1")
    with (
        redis.Redis.from_url(f"redis://127.0.0.1:{valkey.port}") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    for server in (postgres, valkey):
        assert (server.directory / "password").stat().st_mode & 0o077 == 0
        command = Path(f"/proc/{server.pid}/cmdline").read_text()
        assert (server.directory / "password").read_text() not in command


def test_they_listen_on_loopback_only(postgres: EmbeddedPostgres, valkey: EmbeddedRedis) -> None:
    for server in (postgres, valkey):
        # 127.0.0.2 is this machine too: a server on every address would answer there
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.2", server.port)) != 0


def test_a_directory_in_use_is_refused(
    postgres: EmbeddedPostgres, valkey: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_CLAIM_PATIENCE", 0.1)
    for second in (EmbeddedPostgres(postgres.directory), EmbeddedRedis(valkey.directory)):
        with pytest.raises(HeadraceError, match="runs on this directory already"):
            second.start()
    assert query(postgres.url, "SELECT 1") == 1


def test_a_server_started_by_other_means_is_refused(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is not ours: here the lock file is replaced, as if pg_ctl had started the server."""
    monkeypatch.setattr(servers, "_CLAIM_PATIENCE", 0.1)
    (postgres.directory / "lock").unlink()
    with pytest.raises(HeadraceError, match=f"process {postgres.pid} runs"):
        EmbeddedPostgres(postgres.directory).start()
    assert query(postgres.url, "SELECT 1") == 1


def test_a_stale_pid_file_does_not_prevent_a_start(postgres: EmbeddedPostgres) -> None:
    """Even when its process id has been given to another process of the same user."""
    postgres.stop()
    with subprocess.Popen(["sleep", "60"], user=postgres_user(postgres)) as impostor:
        try:
            file = postgres.directory / "data/postmaster.pid"
            file.write_text(f"{impostor.pid}\n/nowhere\n0\n0\n\n\n\nready\n")
            postgres.start()
        finally:
            impostor.kill()
    assert query(postgres.url, "SELECT 1") == 1


def postgres_user(server: EmbeddedPostgres) -> int:
    return (server.directory / "data").stat().st_uid


def test_a_killed_parent_takes_them_down_and_the_next_start_succeeds_at_once(directory: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(directory)], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout
            pids = [int(pid) for pid in parent.stdout.readline().split()]
            assert len(pids) == 2
            # a session of its own: Ctrl-C never reaches it
            assert all(os.getsid(pid) == pid for pid in pids)
        finally:
            parent.kill()
    again = EmbeddedPostgres(directory / "postgres"), EmbeddedRedis(directory / "redis")
    for server in again:
        server.start()
    assert all(await_end(pid) for pid in pids)
    again[0].stop("immediate")
    again[1].kill()


def test_a_taken_port_is_an_error_once_it_was_given_out(valkey: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_PORT_PATIENCE", 0.1)
    valkey.stop()
    with socket.create_server(("127.0.0.1", valkey.port)):
        with pytest.raises(Unavailable, match="something else listens there"):
            valkey.start()
        another = EmbeddedRedis(valkey.directory)  # nobody knows its port yet, so it may take another
        another.start()
        assert another.port != valkey.port
        another.kill()


def test_a_start_that_fails_shows_the_log_and_leaves_nothing_running(directory: Path) -> None:
    server = EmbeddedPostgres(directory / "postgres", settings={"shared_buffers": "nonsense"})
    with pytest.raises(Unavailable, match='invalid value for parameter "shared_buffers"'):
        server.start()
    assert server.pid == 0
    EmbeddedRedis(directory / "postgres").stop()  # stopping what never ran is harmless


@pytest.mark.skipif(not AS_ROOT, reason="only root must give up its rights")
def test_root_runs_postgres_as_another_user_even_below_a_closed_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.chmod(0o700)
    with scratch() as elsewhere:
        monkeypatch.setattr(files, "_RELOCATED", elsewhere / "data")
        server = EmbeddedPostgres(directory / "postgres")
        for _ in range(2):
            server.start()
            assert Path(f"/proc/{server.pid}").stat().st_uid == 65534
            assert query(server.url, "SELECT 1") == 1
            server.stop()
        assert (directory / "postgres/server").resolve().parent == elsewhere / "data"


@pytest.mark.skipif(not AS_ROOT, reason="only root must give up its rights")
def test_binaries_out_of_reach_are_copied_and_a_damaged_copy_is_made_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setattr(binaries, "reachable", lambda path: path == directory)
    for _ in range(2):
        program = binaries.postgres_binaries(65534) / "postgres"
        assert program.is_relative_to(directory)
        done = subprocess.run([program, "--version"], user=65534, capture_output=True, check=True)
        assert done.stdout.startswith(b"postgres (PostgreSQL)")
        file = program.parent.parent / "share/postgres.bki"
        file.unlink()  # raises unless the second round made it again
