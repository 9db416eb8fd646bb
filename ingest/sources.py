"""A source as it runs: its secrets found, and definition and secrets compiled into two functions.

Promises: a compiled source never raises for what a sender sends; one that cannot verify (a preset of another
version, no usable secret) refuses everything, so that it does not stop its neighbours. `resolve_secrets` is
the one function here that reads anything: the files that `{file: …}` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import msgspec

from events.errors import ConfigError
from ingest.definition import FromEnv, FromFile, SecretRef, SourceDefinition, Written, scheme_of
from ingest.identity import Identify, compile_identity
from ingest.parsing import parse_source
from ingest.providers import PRESETS
from ingest.verify.schemes import Site, Unsigned, Verifier, refuse_all

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


class CompiledSource(msgspec.Struct, frozen=True):
    """A source ready for requests: `verify(incoming, now)` and, after that, `identify(incoming)`."""

    definition: SourceDefinition
    verify: Verifier
    identify: Identify


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


def compile_source(definition: SourceDefinition, secrets: list[bytes]) -> CompiledSource:
    """The source, ready for requests. It does not raise: see the header.

    Args:
        secrets: as they were stored; `Verified.secret` is an index into this list.
    """
    preset = PRESETS.get(definition.preset)
    scheme = scheme_of(definition)
    if preset is None or scheme is None:
        return CompiledSource(definition, refuse_all("the source's preset is unknown"), compile_identity((), ()))
    if isinstance(scheme, Unsigned) and definition.preset != "none":
        return CompiledSource(definition, refuse_all("the source has no scheme"), compile_identity((), ()))
    try:
        identify = compile_identity(
            preset.id if definition.id is None else definition.id,
            preset.type if definition.type is None else definition.type,
            scheme.signed_headers(),
        )
    except ValueError:
        return CompiledSource(definition, refuse_all("the source's id is not usable"), compile_identity((), ()))
    return CompiledSource(definition, scheme.compile(secrets, Site(definition.url)), identify)
