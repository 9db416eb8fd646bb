"""Reads a source as people write it (YAML, already loaded) into a `SourceDefinition`.

Promises: all faults at once, each as "path: expected …, got …"; an unknown key is a fault; no fault shows a
secret.

    source: shop
    preset: generic                      # or github, stripe …: `headrace providers` lists them
    secrets: [{env: SHOP_SECRET}]        # see `ingest.parsing_secrets`; several: any of them passes
    verify: {scheme: hmac, …}            # preset generic only: see `ingest.parsing_verify`
    id: {header: X-Id}                   # or hash, or a list of which all are needed: see `ingest.parsing_locators`
    type: {pointer: /type}               # or a list that is joined by full stops
    url: https://hooks.example.com/in/shop   # where the sender signs it
    options, addresses, methods, split, response, rate: see `ingest.parsing_extras`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from events.errors import ConfigError
from ingest.definition import SourceDefinition
from ingest.parsing_extras import (
    parse_addresses,
    parse_methods,
    parse_options,
    parse_rate,
    parse_response,
    parse_split,
)
from ingest.parsing_locators import parse_locator
from ingest.parsing_secrets import parse_secrets
from ingest.parsing_verify import parse_scheme
from ingest.providers import PRESETS
from ingest.reading import Section

OWN_SOURCES = ("emit", "schedule", "api")
"""Sources of events that do not come from outside: triggers may name them, no definition may."""
_SLUG = re.compile(r"[a-z0-9-]{1,63}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_URL = re.compile(r"https?://[^\s?#]+")
_KEYS = (
    "source",
    "preset",
    "secrets",
    "verify",
    "id",
    "type",
    "url",
    "options",
    "addresses",
    "methods",
    "split",
    "response",
    "rate",
)


def parse_source(document: Mapping[str, Any]) -> SourceDefinition:
    """The definition that a document describes.

    Raises:
        ConfigError: with every fault found. Secrets are not looked up here: see `resolve_secrets`.
    """
    faults: list[str] = []
    top = Section("", document, _KEYS, faults)
    slug = top.matching("source", _SLUG, "1 to 63 of a-z, 0-9 and -", required=True)
    if slug in OWN_SOURCES:
        faults.append(f"source: expected another name than {', '.join(OWN_SOURCES)}: events from within have these")
    preset = top.choice("preset", tuple(PRESETS), required=True) or ""
    url = top.matching("url", _URL, "an http(s) URL without a query")
    identifier = parse_locator(top, "id", words={"hash": ()})
    kind = parse_locator(top, "type", words={})
    verify = parse_scheme(top, preset, identifier, url)
    known = PRESETS.get(preset)
    secrets = parse_secrets(top, verify or (known.scheme if known is not None else None))
    options = parse_options(top, known)
    addresses = parse_addresses(top)
    methods = parse_methods(top)
    split = parse_split(top)
    response = parse_response(top)
    rate = parse_rate(top)
    if faults:
        raise ConfigError(f"source {slug}" if slug else "source", faults)
    return SourceDefinition(
        source=slug,
        preset=preset,
        secrets=secrets,
        verify=verify,
        id=identifier,
        type=kind,
        url=url,
        options=options,
        addresses=addresses,
        methods=methods,
        split=split,
        response=response,
        rate=rate,
    )
