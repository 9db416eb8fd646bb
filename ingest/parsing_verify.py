"""Reads how a source of the preset `generic` verifies.

verify: {scheme: hmac, header: X-Signature, prefix: "sha256=", algorithm: sha256, encoding: hex, key: text,
         signed: "{timestamp}.{body}", timestamp: {header: X-Timestamp, unit: s, tolerance: 5m}}
verify: {scheme: hmac, header: X-Signature, pairs: {separator: ",", signature: v1, timestamp: t},
         signed: "{timestamp}.{body}", timestamp: {tolerance: 5m}}
verify: {scheme: bearer}                        # or {scheme: bearer, header: X-Token, prefix: ""}
verify: {scheme: basic}                         # its secret: user:password
verify: {scheme: apikey, header: X-Api-Key}     # or {scheme: apikey, query: key}
verify: {scheme: standard, tolerance: 5m}       # Standard Webhooks
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from events.settings import parse_duration
from ingest.identity import Header, Locator
from ingest.parsing_locators import HEADER, NAME
from ingest.pointers import pointer_tokens
from ingest.providers import PRESETS
from ingest.reading import Section, got
from ingest.verify.base import TOLERANCE, Site
from ingest.verify.schemes import ApiKey, Basic, Bearer, Hmac, Pairs, Scheme, Standard, Timestamp

_SCHEMES = ("hmac", "standard", "bearer", "basic", "apikey")
_NUMBERED = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}(\{n\})?[A-Za-z0-9!#$%&'*+.^_`|~-]{0,100}")
_PAIR_NAME = re.compile(r"[A-Za-z0-9_.-]{1,30}")


def parse_scheme(top: Section, preset: str, identifier: Locator | None, url: str) -> Scheme | None:
    """The scheme at `verify`; None if the preset says how, or a fault was noted.

    Args:
        identifier: where the delivery's id stands; `{id}` in what is signed stands for it.
        url: the source's own public URL, or empty.
    """
    value = top.value("verify")
    if value is None:
        return None
    if preset and preset != "generic":
        top.fault("verify", f"nothing, because preset {preset} says how", got(value))
        return None
    scheme: Scheme
    match value:
        case {"scheme": "hmac"}:
            scheme = _hmac(top, value, identifier)
        case {"scheme": "bearer"}:
            scheme = _bearer(top, value)
        case {"scheme": "basic"}:
            top.section("verify", value, ("scheme",))
            scheme = Basic()
        case {"scheme": "apikey"}:
            section = top.section("verify", value, ("scheme", "header", "query"))
            scheme = ApiKey(
                header=section.matching("header", HEADER, "a header name"),
                query=section.matching("query", NAME, "the name of a query parameter"),
            )
        case {"scheme": "standard"}:
            section = top.section("verify", value, ("scheme", "tolerance"))
            scheme = Standard(tolerance=_tolerance(section))
        case {"scheme": other}:
            top.fault("verify.scheme", f"one of {', '.join(_SCHEMES)}", got(other))
            return None
        case _:
            top.fault("verify", f"{{scheme: …}}, one of {', '.join(_SCHEMES)}", got(value))
            return None
    top.faults.extend(f"verify.{fault}" for fault in scheme.faults(Site(url)))
    return scheme


def _bearer(top: Section, value: Mapping[str, Any]) -> Bearer:
    section = top.section("verify", value, ("scheme", "header", "prefix"))
    header = section.matching("header", HEADER, "a header name") or "Authorization"
    prefix = "Bearer " if header.lower() == "authorization" else ""
    return Bearer(header=header, prefix=section.text("prefix", prefix))


def _hmac(top: Section, value: Mapping[str, Any], identifier: Locator | None) -> Hmac:
    keys = ("scheme", "algorithm", "encoding", "header", "prefix", "signed", "timestamp", "pairs", "key")
    section = top.section("verify", value, keys)
    located = PRESETS["generic"].id if identifier is None else identifier
    return Hmac(
        header=section.matching("header", _NUMBERED, "a header name", required=True),
        algorithm=section.choice("algorithm", ("sha1", "sha256", "sha384", "sha512")) or "sha256",
        encoding=section.choice("encoding", ("hex", "base64", "base64url")) or "hex",
        prefix=section.text("prefix"),
        signed=section.text("signed", "{body}"),
        timestamp=_timestamp(section),
        pairs=_pairs(section),
        id_header=located[0].name if len(located) == 1 and isinstance(located[0], Header) else "",
        key=section.choice("key", ("text", "hex", "base64")) or "text",
    )


def _pairs(verify: Section) -> Pairs | None:
    value = verify.value("pairs")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        verify.fault("pairs", "{separator: ',', signature: v1, timestamp: t}", got(value))
        return None
    section = verify.section("pairs", value, ("separator", "signature", "timestamp"))
    separator = section.text("separator", ",")
    if len(separator) != 1 or separator in "=\n":
        section.fault("separator", "one character, and not =", got(separator))
        separator = ","
    return Pairs(
        separator=separator,
        signature=section.matching("signature", _PAIR_NAME, "a name such as v1") or "v1",
        timestamp=section.matching("timestamp", _PAIR_NAME, "a name such as t"),
    )


def _timestamp(verify: Section) -> Timestamp | None:
    value = verify.value("timestamp")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        verify.fault("timestamp", "{header: …, unit: s, ms or iso8601, tolerance: 5m}", got(value))
        return None
    section = verify.section("timestamp", value, ("header", "pointer", "unit", "tolerance"))
    pointer = section.text("pointer")
    try:
        if "pointer" in value:
            pointer_tokens(pointer)
    except ValueError:
        section.fault("pointer", "a JSON Pointer such as /sent_at", got(pointer))
        pointer = ""
    elsewhere = "pointer" in value or verify.value("pairs") is not None
    return Timestamp(
        header=section.matching("header", HEADER, "a header name", required=not elsewhere),
        unit=section.choice("unit", ("s", "ms", "iso8601")) or "s",
        tolerance=_tolerance(section),
        pointer=pointer,
    )


def _tolerance(section: Section) -> float:
    value = section.value("tolerance")
    try:
        return TOLERANCE if value is None else parse_duration(value)
    except ValueError:
        section.fault("tolerance", "a duration such as 30s, 5m or 24h", got(value))
        return TOLERANCE
