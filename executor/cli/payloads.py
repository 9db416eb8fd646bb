"""Payloads to send: Headrace's own few, a directory of them, or a file of JSON lines.

A file of a directory is `<provider>.<event>.json` or `<event>.json`; a line of a file is `{"event": …,
"payload": …}`, and the file may be compressed with gzip.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec

from events.errors import ConfigError

OWN = Path(__file__).parent.parent / "demo" / "payloads"
PROVIDERS = ("github", "stripe")

Payload = tuple[str, bytes]
"""The event's type, and the body as it is sent."""


class _Line(msgspec.Struct):
    event: str
    payload: msgspec.Raw


def own_payloads(preset: str) -> list[Payload]:
    """Headrace's own payloads in a provider's form; of all for a preset that has no form of its own."""
    return _directory(OWN, f"{preset}.*.json" if preset in PROVIDERS else "*.json")


def load_payloads(path: Path) -> list[Payload]:
    """The payloads of a directory or a file.

    Raises:
        ConfigError: it cannot be read, or holds none; with the line.
    """
    if path.is_dir():
        return _directory(path, "*.json")
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as lines:
            found = [_payload(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    except (OSError, EOFError) as error:
        got = getattr(error, "strerror", None) or str(error)
        raise ConfigError("payloads", [f"{path}: expected a readable file, got: {got}"]) from None
    if not found:
        raise ConfigError("payloads", [f"{path}: expected at least one payload, got none"])
    return found


def _payload(path: Path, number: int, line: bytes) -> Payload:
    try:
        read = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fault = f"{path}, line {number}: expected {{event, payload}}, got: {error}"
        raise ConfigError("payloads", [fault]) from None
    return read.event, bytes(read.payload)


def _directory(directory: Path, pattern: str) -> list[Payload]:
    files = sorted(directory.glob(pattern))
    if not files:
        raise ConfigError("payloads", [f"{directory}: expected files {pattern}, got none"])
    return [(_event_of(file), file.read_bytes()) for file in files]


def _event_of(file: Path) -> str:
    provider, _, event = file.stem.partition(".")
    return event if provider in PROVIDERS and event else file.stem
