"""Settings: one typed Struct, read once by each process's composition root and handed down.

Sources, later ones win: the defaults below, a TOML file (`HEADRACE_CONFIG`, else `headrace.toml`, else the
`.headrace/dev.toml` that `headrace dev` writes), then environment variables `HEADRACE_<NAME>`. A variable
`HEADRACE_<NAME>_FILE` names a file that holds the value (container secrets). All faults are reported at once; an
unknown name is a fault. All times are seconds as float; files may say `30s`, `5m`, `24h`; sizes may say `25MB`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from events.errors import ConfigError
from events.settings_faults import faults_of

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)\s*(B|KB|MB|GB)", re.IGNORECASE)
_SIZE_UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every process may be told. Each field says what it does, its unit and its default."""

    database_url: str = ""
    """`postgresql://user:password@host:port/database`. Required."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """The doorbell (Dramatiq's broker). Nothing in it is ever the only copy."""
    state_redis_url: str = "redis://127.0.0.1:6379/1"
    """Snapshots; another server or another database than `redis_url`."""
    secret_key: str = ""
    """32 random bytes in base64: encrypts the secrets of sources and endpoints at rest. Required once one has any."""
    ingest_password: str = ""
    """For `headrace migrate`, as the next three: with it the role headrace_ingest may log in from then on."""
    worker_password: str = ""
    """The password of headrace_worker."""
    relay_password: str = ""
    """The password of headrace_relay."""
    operator_password: str = ""
    """The password of headrace_operator, which the other commands use."""
    ingest_host: str = "127.0.0.1"
    """The address that ingest listens on."""
    ingest_port: int = 8080
    """The port that ingest listens on; 0 lets the system pick one."""
    body_limit: int = 25 << 20
    """The largest body accepted, in bytes (`25MB`). A larger one is a 413 while it is being read."""
    body_memory: int = 256 << 20
    """The most bytes of bodies that one ingest process holds at once (`256MB`); what exceeds it waits, then is 503."""
    body_timeout: float = 30.0
    """How long a sender may take for a body, in seconds, and one more for every 100 KB it has sent."""
    header_limit: int = 64 << 10
    """The most bytes of a request's line and headers (`64KB`). More are a 431."""
    header_timeout: float = 10.0
    """How long a connection may take to send a request's headers, in seconds, before it is closed."""
    connections: int = 10_000
    """How many connections one ingest process holds; one more closes the one that has been idle longest."""
    trusted_proxies: list[str] = []
    """Networks (CIDR) of proxies whose X-Forwarded-For is believed when a source has an address list."""
    workspace: str = "default"
    """The workspace that `headrace apply` and `headrace workflows` speak of."""
    public_url: str = ""
    """Where senders reach ingest, for example `https://hooks.example.com`: for those that sign the URL."""
    spool_dir: str = ""
    """A directory of this process alone, where deliveries are kept while PostgreSQL is away. Empty: 503 meanwhile."""
    spool_limit: int = 1 << 30
    """The most bytes of deliveries in `spool_dir` (`1GB`); what comes when it is full is 503."""
    rejected_retention: float = 72 * 3600.0
    """How long refused requests are kept, in seconds (`72h`)."""
    rejected_per_hour: int = 200
    """How many refused requests are kept per source and hour; 0 keeps none."""
    rejected_bytes_per_hour: int = 16 << 20
    """The most bytes of refused requests that are kept per source and hour (`16MB`)."""
    append_queue: int = 10_000
    """How many requests may wait for the log before ingest answers 503."""
    lease: float = 30.0
    """How long a worker may be silent before its work is given to another, in seconds. Renewed every third of it."""
    concurrency: int = 256
    """How many runs one worker process holds at once, at most."""
    concurrency_min: int = 16
    """How many it holds at least, however slow the database is."""
    console_host: str = "127.0.0.1"
    """Where the console listens: the private HTTP service."""
    console_port: int = 8081
    """The port of it; 0 lets the system pick."""
    api_rate: int = 600
    """How many requests a minute an API key may make to /run and /workflow."""
    api_workspace_rate: int = 3000
    """How many all keys of a workspace may make together."""
    worker_health_host: str = "127.0.0.1"
    """Where a worker answers probes: /health/ready and /health/live."""
    worker_health_port: int = -1
    """The port of these; 0 lets the system pick, -1 answers none."""
    loop_stall: float = 10.0
    """How long a node may block a worker's event loop, in seconds, before the process is replaced; 0: for ever. At most
    half of `lease`, or 2 s if that is more."""
    max_recoveries: int = 5
    """How often work may die with its worker, without any progress between, before it is parked for a person."""
    drain_grace: float = 10.0
    """After SIGTERM: how long running nodes may take to finish, in seconds."""
    relay_poll: float = 0.5
    """The longest time between two looks of the relay at the work list, in seconds."""
    node_processes: int = 2
    """How many processes run the user's synchronous nodes, per worker."""
    node_modules: list[str] = []
    """Modules that define `@node` functions, beside those found through the entry point group `headrace.nodes`."""
    egress_allow: list[str] = []
    """Networks (CIDR) that nodes may call although they are not public, for example `10.1.0.0/16`."""
    partition_weeks: int = 4
    """How many weeks of log partitions are made ahead."""
    log_format: str = "auto"
    """`json`, `console`, or `auto`: console on a terminal, else JSON."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""

    def role_passwords(self) -> dict[str, str]:
        """The passwords that roles are to get, by process role; only those that were given."""
        roles = ("ingest", "worker", "relay", "operator")
        passwords = {role: str(getattr(self, f"{role}_password")) for role in roles}
        return {role: password for role, password in passwords.items() if password}


_DURATIONS = {
    "lease",
    "loop_stall",
    "drain_grace",
    "relay_poll",
    "body_timeout",
    "header_timeout",
    "rejected_retention",
}
_SIZES = {"body_limit", "body_memory", "header_limit", "spool_limit", "rejected_bytes_per_hour"}
_RESERVED = {"config"}  # names the file itself


def parse_duration(text: str | float) -> float:
    """Seconds from `30s`, `5m`, `1h30m`, `250ms`, or a plain number of seconds.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    parts = _DURATION.findall(str(text))
    if parts and not _DURATION.sub("", str(text)).strip():
        return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a duration such as 30s, 5m or 24h, got {text!r}") from None


def parse_size(text: str | int) -> int:
    """Bytes from `25MB` (powers of 1024) or a plain number.

    Raises:
        ValueError: it is neither.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match:
        return int(match[1]) * _SIZE_UNITS[match[2].upper()]
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a size such as 25MB, got {text!r}") from None


def load_settings(environ: Mapping[str, str], directory: Path | None = None, **overrides: Any) -> Settings:
    """The settings of this process. `overrides` (from command-line options; None means not given) win over all.

    Raises:
        ConfigError: with every fault found, each as "name: expected …, got …".
    """
    faults: list[str] = []
    values = _from_file(environ, directory or Path.cwd(), faults)
    values |= _from_environment(environ, faults)
    values |= {name: value for name, value in overrides.items() if value is not None}
    types = get_type_hints(Settings)
    clean: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            close = difflib.get_close_matches(name, types, 1)
            faults.append(f"{name}: no such setting" + (f"; did you mean {close[0]}?" if close else ""))
            continue
        try:
            clean[name] = _convert(name, value, types[name])
        except (ValueError, msgspec.ValidationError) as error:
            faults.append(f"{name}: {error}")
    settings = Settings(**clean)
    faults += faults_of(settings)
    if faults:
        raise ConfigError("settings", faults)
    return settings


def _from_file(environ: Mapping[str, str], directory: Path, faults: list[str]) -> dict[str, Any]:
    named = environ.get("HEADRACE_CONFIG")
    candidates = [Path(named)] if named else [directory / "headrace.toml", directory / ".headrace" / "dev.toml"]
    for path in candidates:
        if path.is_file():
            try:
                return tomllib.loads(path.read_text())
            except (tomllib.TOMLDecodeError, OSError) as error:
                faults.append(f"{path}: expected a TOML file, got: {error}")
                return {}
    if named:
        faults.append(f"HEADRACE_CONFIG: expected a file, got {named!r}, which does not exist")
    return {}


def _from_environment(environ: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith("HEADRACE_"):
            continue
        name = variable.removeprefix("HEADRACE_").lower()
        if name in _RESERVED or name.startswith("test_"):  # the tests' own
            continue
        if name.endswith("_file"):
            try:
                values[name.removesuffix("_file")] = Path(text).read_text().strip()
            except OSError as error:
                faults.append(f"{variable}: expected a readable file, got: {error}")
        else:
            values[name] = text
    return values


def _convert(name: str, value: Any, kind: Any) -> Any:
    if name in _DURATIONS:
        return parse_duration(value)
    if name in _SIZES:
        return parse_size(value)
    if kind == list[str] and isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return msgspec.convert(value, kind, strict=False)
