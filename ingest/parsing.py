"""Reads a source as people write it (YAML, already loaded) into a `SourceDefinition`.

Promises: all faults at once, each as "path: expected …, got …"; an unknown key is a fault; no fault shows a
secret.

    source: shop
    preset: generic                      # or github, stripe …: `headrace providers` lists them
    secrets: [{env: SHOP_SECRET}]        # see `ingest.parsing_secrets`; several: any of them passes
    verify:                              # preset generic only; or {scheme: bearer, header: …, prefix: …}
      {scheme: hmac, header: X-Signature, prefix: "sha256=", algorithm: sha256, encoding: hex, key: text,
       signed: "{timestamp}.{body}", timestamp: {header: X-Timestamp, unit: s, tolerance: 5m}}
    id: {header: X-Id}                   # or {pointer: /data/id}, hash, or a list of which all are needed
    type: {pointer: /type}               # or {header: X-Type}, or a list that is joined by full stops
    url: https://hooks.example.com/in/shop   # where the sender signs it
    options, addresses, methods, split, response, rate: see `ingest.parsing_extras`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from events.errors import ConfigError
from events.settings import parse_duration
from ingest.definition import SourceDefinition
from ingest.identity import Header, Locator, Pointer
from ingest.parsing_extras import (
    parse_addresses,
    parse_methods,
    parse_options,
    parse_rate,
    parse_response,
    parse_split,
)
from ingest.parsing_secrets import parse_secrets
from ingest.pointers import pointer_tokens
from ingest.providers import PRESETS
from ingest.reading import Section, got
from ingest.verify.schemes import TOLERANCE, Bearer, Hmac, Scheme, Site, Timestamp

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
    preset = top.choice("preset", tuple(PRESETS), required=True) or ""
    url = top.matching("url", _URL, "an http(s) URL without a query")
    identifier = _locator(top, "id", words={"hash": ()})
    kind = _locator(top, "type", words={})
    verify = _scheme(top, preset, identifier, url)
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


def _locator(top: Section, key: str, words: Mapping[str, Locator]) -> Locator | None:
    value = top.value(key)
    if value is None:
        return None
    if isinstance(value, str) and value in words:
        return words[value]
    expected = " or ".join(["{header: …}", "{pointer: …}", *words])
    if not isinstance(value, list):
        part = _part(top, key, value, expected)
        return None if part is None else (part,)
    if not value:
        top.fault(key, expected, "an empty list")
    parts = [_part(top, f"{key}[{index}]", item, expected) for index, item in enumerate(value)]
    return tuple(part for part in parts if part is not None)


def _part(top: Section, path: str, value: Any, expected: str) -> Header | Pointer | None:
    if not isinstance(value, Mapping) or len(value) != 1:
        top.fault(path, expected, got(value))
        return None
    section = top.section(path, value, ("header", "pointer"))
    if "header" in value:
        return Header(section.matching("header", _HEADER, "a header name", required=True))
    pointer = section.text("pointer")
    try:
        pointer_tokens(pointer)
    except ValueError:
        if "pointer" in value:
            section.fault("pointer", "a JSON Pointer such as /data/id", got(value["pointer"]))
        return None
    return Pointer(pointer)


def _scheme(top: Section, preset: str, identifier: Locator | None, url: str) -> Scheme | None:
    value = top.value("verify")
    if value is None:
        return None
    if preset and preset != "generic":
        top.fault("verify", f"nothing, because preset {preset} says how", got(value))
        return None
    match value:
        case {"scheme": "bearer"}:
            return _bearer(top, value)
        case {"scheme": "hmac"}:
            return _hmac(top, value, identifier, url)
        case {"scheme": other}:
            top.fault("verify.scheme", "hmac or bearer", got(other))
        case _:
            top.fault("verify", "{scheme: hmac, …} or {scheme: bearer}", got(value))
    return None


def _bearer(top: Section, value: Mapping[str, Any]) -> Bearer:
    section = top.section("verify", value, ("scheme", "header", "prefix"))
    header = section.matching("header", _HEADER, "a header name") or "Authorization"
    prefix = "Bearer " if header.lower() == "authorization" else ""
    return Bearer(header=header, prefix=section.text("prefix", prefix))


def _hmac(top: Section, value: Mapping[str, Any], identifier: Locator | None, url: str) -> Hmac:
    keys = ("scheme", "algorithm", "encoding", "header", "prefix", "signed", "timestamp", "key")
    section = top.section("verify", value, keys)
    located = PRESETS["generic"].id if identifier is None else identifier
    scheme = Hmac(
        header=section.matching("header", _HEADER, "a header name", required=True),
        algorithm=section.choice("algorithm", ("sha1", "sha256", "sha512")) or "sha256",
        encoding=section.choice("encoding", ("hex", "base64", "base64url")) or "hex",
        prefix=section.text("prefix"),
        signed=section.text("signed", "{body}"),
        timestamp=_timestamp(section),
        id_header=located[0].name if len(located) == 1 and isinstance(located[0], Header) else "",
        key=section.choice("key", ("text", "hex", "base64")) or "text",
    )
    top.faults.extend(f"verify.{fault}" for fault in scheme.faults(Site(url)))
    return scheme


def _timestamp(verify: Section) -> Timestamp | None:
    value = verify.value("timestamp")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        verify.fault("timestamp", "{header: …, unit: s or ms, tolerance: 5m}", got(value))
        return None
    section = verify.section("timestamp", value, ("header", "unit", "tolerance"))
    tolerance = section.value("tolerance")
    try:
        seconds = TOLERANCE if tolerance is None else parse_duration(tolerance)
    except ValueError:
        section.fault("tolerance", "a duration such as 30s, 5m or 24h", got(tolerance))
        seconds = TOLERANCE
    return Timestamp(
        header=section.matching("header", _HEADER, "a header name", required=True),
        unit=section.choice("unit", ("s", "ms")) or "s",
        tolerance=seconds,
    )
