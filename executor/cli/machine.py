"""A whole Headrace on this machine: embedded stores, the schema, and its processes, below one directory.

    with Machine(directory, say) as machine:
        machine.start({"ingest_port": 8080}, environ)

Starting is as quick as the machine allows: the stores start side by side, and what is needed for the schema
is loaded meanwhile. Leaving stops all in order: the processes first, then what they stand on. What the stores
hold stays.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from events.settings import Settings, load_settings
from executor.cli.embedded import EmbeddedPostgres, EmbeddedRedis
from executor.cli.files import write_private
from executor.cli.supervisor import CONFIG, Supervisor, Value


class Machine:
    """See the module's header.

    Args:
        directory: holds data, settings, logs and keys; made if need be.
        say: told, in a sentence, what happens to the processes.
        persist: whether Valkey keeps what it holds over a restart.
    """

    def __init__(self, directory: Path, say: Callable[[str], None], *, persist: bool = True) -> None:
        self.directory = directory.absolute()
        self.supervisor = Supervisor(self.directory, say)
        self.postgres = EmbeddedPostgres(self.directory / "postgres")
        self.redis = EmbeddedRedis(self.directory / "redis", persist=persist)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Machine:
        self._stack.enter_context(self.supervisor)
        self._stack.callback(self.postgres.stop)
        self._stack.callback(self.redis.stop)
        return self

    def __exit__(self, *_failure: object) -> None:
        self._stack.callback(self.supervisor.stop)  # before the stores
        self._stack.close()

    def start(
        self,
        settings: Mapping[str, Value],
        environ: Mapping[str, str],
        prepare: Callable[[Settings], None] = lambda settings: None,
        *,
        console: bool = False,
    ) -> Settings:
        """Starts everything; returns the settings when everything is ready.

        Args:
            settings: beside the stores' addresses and the key, which are made here.
            environ: the processes' environment.
            prepare: called when the schema is there and before any process starts.
            console: whether the console runs too.

        Raises:
            HeadraceError: something did not start; the message says what and why.
        """
        with ThreadPoolExecutor(2) as pool:
            stores = [pool.submit(self.postgres.start), pool.submit(self.redis.start)]
            from migrations.run import upgrade_async  # noqa: PLC0415 - loads while the stores start

            for store in stores:
                store.result()
        self.supervisor.configure(
            {
                "database_url": self.postgres.url,
                "redis_url": self.redis.url,
                "state_redis_url": self.redis.database_url(1),
                "secret_key": self.secret("secret.key", lambda: base64.b64encode(os.urandom(32)).decode()),
                **settings,
            },
            environ,
        )
        asyncio.run(upgrade_async(self.postgres.url))
        loaded = load_settings({"HEADRACE_CONFIG": str(self.directory / CONFIG)})
        prepare(loaded)
        self.supervisor.start(console=console)
        return loaded

    def secret(self, name: str, make: Callable[[], str]) -> str:
        """What the private file of this name holds; made the first time."""
        path = self.directory / name
        if not path.exists():
            write_private(path, make() + "\n")
        return path.read_text().strip()
