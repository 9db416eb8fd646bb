"""A source's secrets, found where its definition says; and the names that others need of a source, in one place.

`resolve_secrets` is the one function of ingest that reads what a definition names: the files of `{file: …}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from events.errors import ConfigError
from ingest.compiled import CompiledSource, compile_source
from ingest.definition import FromEnv, FromFile, SecretRef, SourceDefinition, Written, scheme_of
from ingest.parsing import parse_source

__all__ = [
    "CompiledSource",
    "FromEnv",
    "FromFile",
    "SecretRef",
    "SourceDefinition",
    "Written",
    "compile_source",
    "parse_source",
    "resolve_secret",
    "resolve_secrets",
]


def resolve_secrets(definition: SourceDefinition, environ: Mapping[str, str]) -> list[str]:
    """The secrets that a definition names, in its order.

    Raises:
        ConfigError: for every variable or file that is missing or blank, and every secret that the source's
            scheme cannot use. No message holds a secret.
    """
    scheme = scheme_of(definition)
    secrets: list[str] = []
    faults: list[str] = []
    for index, reference in enumerate(definition.secrets):
        try:
            secret = resolve_secret(reference, environ)
            if scheme is not None and not reference.handshake:
                scheme.check_secret(secret.encode())
            secrets.append(secret)
        except ValueError as error:
            faults.append(f"secrets[{index}]: {error}")
    if faults:
        raise ConfigError(f"source {definition.source}", faults)
    return secrets


def resolve_secret(reference: SecretRef, environ: Mapping[str, str]) -> str:
    """The secret that a reference names.

    Raises:
        ValueError: there is none, as "expected …, got …".
    """
    match reference:
        case FromEnv(name=name):
            if not environ.get(name, "").strip():
                raise ValueError(f"expected a value in the environment variable {name}, got none")
            return environ[name]
        case FromFile(path=path):
            try:
                text = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                kind = error.strerror if isinstance(error, OSError) else "bytes that are not UTF-8"
                raise ValueError(f"expected a readable file {path}, got: {kind}") from None
            if not text:
                raise ValueError(f"expected a secret in the file {path}, got a blank one")
            return text
        case Written():
            text_or_none = reference.text()
            if text_or_none is None:
                raise ValueError("expected the secret as it was written, got a stored definition, which has none")
            return text_or_none
        case _:
            assert_never(reference)
