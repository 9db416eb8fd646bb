"""Definition files: YAML documents in, checked sources, endpoints and workflows out.

Promises: all faults of all files at once, each as "file, document N: path: expected …, got …"; nothing is
changed here, and no fault shows a secret. A document says what it is by a key: `source:`, `workflow:` or

    endpoint: crm
    url: https://crm.example/hooks
    secret: {env: CRM_SECRET}        # or {file: path}, {value: text}, plain text; without: unsigned

The command line is an entry point above both services, which is why modules of `executor.cli`, and no others
of the executor, may import what `ingest` says a source is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import msgspec

from events.errors import ConfigError
from events.waits import WaitExpression
from executor.engine.workflows import wait_rows
from executor.nodes.webhook_deliver import sign
from executor.workflow.graph import NodeSpec, compile_workflow, content_hash, load_yaml, parse_workflow
from executor.workflow.outcomes import NodeError
from executor.workflow.schedules import Schedule
from ingest.parsing import OWN_SOURCES
from ingest.parsing_secrets import parse_secret
from ingest.providers import PRESETS
from ingest.reading import Section
from ingest.sources import SourceDefinition, parse_source, resolve_secret, resolve_secrets

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_URL = re.compile(r"https?://[^\s/]+\S*")
_SUFFIXES = (".yaml", ".yml", ".json")


class NamedSource(msgspec.Struct, frozen=True):
    """A source and its secrets, in the order in which the definition names them."""

    definition: SourceDefinition
    secrets: tuple[bytes, ...]


class NamedEndpoint(msgspec.Struct, frozen=True):
    """An endpoint of `webhook.deliver`; without a secret what is sent there is unsigned."""

    name: str
    url: str
    secret: bytes | None


class NamedWorkflow(msgspec.Struct, frozen=True):
    """A workflow that parsed: its document, its content hash, the sources that its triggers and waits name, what its
    waits find deliveries by, and its schedules.
    """

    name: str
    hash: bytes
    document: dict[str, Any]
    sources: tuple[str, ...]
    where: str
    waits: tuple[WaitExpression, ...] = ()
    schedules: tuple[Schedule, ...] = ()


class Definitions(msgspec.Struct):
    """What the files say."""

    sources: list[NamedSource] = []
    endpoints: list[NamedEndpoint] = []
    workflows: list[NamedWorkflow] = []


def definition_files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and those of the directories, by name.

    Raises:
        ConfigError: a path does not exist, or a directory holds no definition file.
    """
    files: list[Path] = []
    faults: list[str] = []
    for path in paths:
        found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES) if path.is_dir() else [path]
        if not path.exists() or not found:
            got = "no such file" if not path.exists() else "a directory without any"
            faults.append(f"{path}: expected YAML or JSON files ({', '.join(_SUFFIXES)}), got {got}")
        files += found
    if faults:
        raise ConfigError("apply", faults)
    return list(dict.fromkeys(files))


def read_definitions(files: Sequence[Path], environ: Mapping[str, str], specs: Mapping[str, NodeSpec]) -> Definitions:
    """All definitions of these files.

    Args:
        environ: where `{env: NAME}` is looked up.
        specs: the node types there are.

    Raises:
        ConfigError: with every fault of every file.
    """
    read = Definitions()
    seen: dict[tuple[str, str], str] = {}
    faults: list[str] = []
    for file in files:
        try:
            documents = load_yaml(file.read_text(encoding="utf-8"))
        except ConfigError as error:
            faults += [f"{file}: {fault}" for fault in error.faults]
            continue
        except (OSError, UnicodeDecodeError) as error:
            got = error.strerror if isinstance(error, OSError) else "bytes that are not UTF-8"
            faults.append(f"{file}: expected a readable file, got: {got}")
            continue
        for number, document in enumerate(documents, 1):
            where = f"{file}, document {number}" if len(documents) > 1 else str(file)
            try:
                identity = _read(document, where, read, environ, specs)
            except ConfigError as error:
                faults += [f"{where}: {fault}" for fault in error.faults]
                continue
            if identity in seen:
                faults.append(f"{where}: {': '.join(identity)}: expected it once, got it in {seen[identity]} too")
            seen[identity] = where
    if faults:
        raise ConfigError("apply", faults)
    return read


def unknown_sources(read: Definitions, known: Set[str]) -> list[str]:
    """A fault for each trigger whose source is neither among these definitions nor `known`."""
    there = known | {source.definition.source for source in read.sources} | set(OWN_SOURCES)
    return [
        f"{workflow.where}: on[].source: expected a source that exists or is applied here, got {source!r}"
        for workflow in read.workflows
        for source in workflow.sources
        if source not in there
    ]


def without_url(read: Definitions) -> list[str]:
    """A fault for each source whose sender signs the URL, and which has none of its own."""
    return [
        f"source {one.definition.source}: url: expected the URL as its sender knows it, which the signature covers,"
        " got none; or set HEADRACE_PUBLIC_URL, here and for ingest"
        for one in read.sources
        if not one.definition.url and PRESETS[one.definition.preset].needs_url
    ]


def _read(
    document: Any, where: str, read: Definitions, environ: Mapping[str, str], specs: Mapping[str, NodeSpec]
) -> tuple[str, str]:
    """Reads one document into `read`; what it is and its name."""
    match document:
        case {"source": _}:
            definition = parse_source(document)
            secrets = tuple(secret.encode() for secret in resolve_secrets(definition, environ))
            read.sources.append(NamedSource(definition, secrets))
            return "source", definition.source
        case {"endpoint": _}:
            endpoint = parse_endpoint(document, environ)
            read.endpoints.append(endpoint)
            return "endpoint", endpoint.name
        case {"workflow": _}:
            workflow = parse_workflow(document, specs)
            hash = content_hash(document)
            waits = wait_rows(compile_workflow(workflow, hash))
            named = (*(trigger.source for trigger in workflow.on), *(wait.source for wait in waits))
            sources = tuple(dict.fromkeys(named))
            schedules = tuple(trigger.schedule for trigger in workflow.on if trigger.schedule is not None)
            read.workflows.append(NamedWorkflow(workflow.name, hash, document, sources, where, waits, schedules))
            return "workflow", workflow.name
        case _:
            got = (
                "{" + ", ".join(map(str, document)) + "}" if isinstance(document, Mapping) else type(document).__name__
            )
            raise ConfigError(where, [f"document: expected source:, endpoint: or workflow:, got {got}"])


def parse_endpoint(document: Mapping[str, Any], environ: Mapping[str, str]) -> NamedEndpoint:
    """An endpoint as people write it.

    Raises:
        ConfigError: with every fault.
    """
    faults: list[str] = []
    top = Section("", document, ("endpoint", "url", "secret"), faults)
    name = top.matching("endpoint", _NAME, "a name of letters, digits and . _ -", required=True)
    url = top.matching("url", _URL, "an http(s) URL", required=True)
    secret: bytes | None = None
    if top.value("secret") is not None:
        reference = parse_secret(top, "secret", top.value("secret"))
        try:
            if reference is not None:
                secret = resolve_secret(reference, environ).encode()
                sign(secret, "", 0, b"")
        except (ValueError, NodeError) as error:
            faults.append(f"secret: {error}")
    if faults:
        raise ConfigError(f"endpoint {name}", faults)
    return NamedEndpoint(name, url, secret)
