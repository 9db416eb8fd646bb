"""The sources that are fuzzed: one for each preset, and such as people describe themselves."""

from __future__ import annotations

from typing import Any

from ingest.definition import SourceDefinition, scheme_of
from ingest.identity import Locator
from ingest.parsing import parse_source
from ingest.providers import PRESETS
from ingest.verify.base import Description
from tests.fuzz.signers import OPTIONS, secrets_for

VERIFY_TOKEN = "meatyhamhock"

_HMAC = {"scheme": "hmac", "header": "X-Signature"}
_STAMPED: dict[str, Any] = {"timestamp": {"header": "X-Timestamp"}}
_DESCRIBED: dict[str, dict[str, Any]] = {
    "basic": {"verify": {"scheme": "basic"}, "id": "hash"},
    "bearer": {"verify": {"scheme": "bearer"}, "id": [{"query": "a"}, {"form": "a"}], "type": {"query": "b"}},
    "api-key": {"verify": {"scheme": "apikey", "header": "X-Api-Key"}, "id": {"pointer": "/0/id"}},
    "api-key-in-query": {"verify": {"scheme": "apikey", "query": "the key"}, "methods": ["POST", "GET"]},
    "standard": {"verify": {"scheme": "standard"}, "split": {"pointer": ""}},
    "address": {"verify": {**_HMAC, "signed": "{method} {path}?{query}\n{body}"}, "split": {"pointer": "/entry"}},
    "url": {"verify": {**_HMAC, **_STAMPED, "signed": "{timestamp}{url}{body}", "encoding": "base64url"}},
    "id": {"verify": {**_HMAC, **_STAMPED, "signed": "{id}.{timestamp}.{body}"}, "id": {"header": "X-Id"}},
    "stamped": {"verify": {**_HMAC, "signed": "{timestamp}{body}", "timestamp": {"header": "X-T", "unit": "ms"}}},
    "iso": {"verify": {**_HMAC, "signed": "{body}{timestamp}", "timestamp": {"header": "X-T", "unit": "iso8601"}}},
    "trailing": {"verify": {**_HMAC, **_STAMPED, "signed": "{body}{timestamp}", "algorithm": "sha1"}},
    "numbered": {"verify": {"scheme": "hmac", "header": "X-Signature-{n}", "encoding": "base64", "key": "base64"}},
    "inside": {"verify": {**_HMAC, "timestamp": {"pointer": "/at", "unit": "ms"}}, "id": {"pointer": "/at"}},
    "paired": {
        "verify": {
            **_HMAC,
            "signed": "v1:{timestamp}:{body}",
            "pairs": {"separator": ";", "signature": "s", "timestamp": "t"},
            "timestamp": {"tolerance": "1m"},
            "key": "hex",
        },
        "type": [{"first": [{"form": "a"}, {"header": "X-Type"}, {"pointer": "/type"}]}, {"pointer": "/action"}],
    },
}

NAMES = [*PRESETS, *(f"described-{name}" for name in _DESCRIBED)]


def definition_of(name: str, url: str) -> tuple[SourceDefinition, list[str]]:
    """The source of this name and what its secrets are, in its definition's order."""
    if name in PRESETS:
        preset = PRESETS[name]
        document: dict[str, Any] = {"source": name, "preset": name, "url": url}
        if options := {one.name: OPTIONS[one.name] for one in preset.options if one.required}:
            document["options"] = options
        texts = secrets_for(preset.scheme)
    else:
        document = {"source": name, "preset": "generic", "url": url} | _DESCRIBED[name.removeprefix("described-")]
        drafted = parse_source({**document, "secrets": ["unknown yet"]}).verify
        assert drafted is not None
        texts = secrets_for(drafted)
    if texts:
        document["secrets"] = list(texts)
    if name == "meta":
        document["secrets"], texts = [*texts, {"env": "T", "for": "handshake"}], [*texts, VERIFY_TOKEN]
    return parse_source(document), texts


def scheme(name: str) -> Description:
    """How the source of this name verifies."""
    found = scheme_of(definition_of(name, "https://example.com")[0])
    assert found is not None
    return found


def locators(definition: SourceDefinition) -> tuple[Locator, Locator]:
    """Where ids and types stand."""
    preset = PRESETS[definition.preset]
    return (
        preset.id if definition.id is None else definition.id,
        preset.type if definition.type is None else definition.type,
    )
