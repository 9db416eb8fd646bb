"""Reads what a source may say beside its signature: options, addresses, methods, batches, the response, the rate.

options: {webhook_id: 8PT597110X687430LKGECATA}   # what the preset asks for
addresses: [203.0.113.0/24, "2001:db8::/32"]      # nobody else may send
methods: [POST, PUT]
split: {pointer: /events}                         # the array of a batch's events; "" is the whole body
response: {status: 200, headers: {X-Seen: "1"}, body: ok}
rate: {limit: 100, per: 1s, burst: 200}           # in each ingest process; more is a 429
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from events.settings import parse_duration
from ingest.definition import Rate
from ingest.pointers import pointer_tokens
from ingest.providers.base import Preset, Response
from ingest.reading import Section, got, got_kind
from ingest.verify.addresses import network_of

METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET")
MOST_TEXT = 4096
"""Characters of a response's body, and of an option."""

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,1000}")
_OURS = ("content-length", "transfer-encoding", "connection", "date")


def parse_options(top: Section, preset: Preset | None) -> dict[str, str]:
    """The options, checked against what the preset asks for."""
    value = top.value("options")
    if preset is None or (value is None and not preset.options):
        return {}
    if value is not None and not isinstance(value, Mapping):
        top.fault("options", "a mapping", got_kind(value))
        return {}
    section = top.section("options", value or {}, tuple(option.name for option in preset.options) or ("nothing",))
    options: dict[str, str] = {}
    for option in preset.options:
        given = section.value(option.name)
        if isinstance(given, list) and given and all(isinstance(item, str) for item in given):
            given = ",".join(given)
        if isinstance(given, int) and not isinstance(given, bool):
            given = str(given)
        if isinstance(given, str) and given.strip() and len(given) <= MOST_TEXT:
            options[option.name] = given.strip()
        elif given is not None or option.required:
            section.fault(option.name, option.what, got(given))
    return options


def parse_addresses(top: Section) -> tuple[str, ...]:
    """Networks in their usual form."""
    value = top.value("addresses")
    if value is None:
        return ()
    if not isinstance(value, list) or not value:
        top.fault("addresses", "a list of networks such as 203.0.113.0/24", got(value))
        return ()
    networks = []
    for index, text in enumerate(value):
        try:
            networks.append(str(network_of(str(text).strip())))
        except ValueError as error:
            top.faults.append(f"addresses[{index}]: {error}")
    return tuple(networks)


def parse_methods(top: Section) -> tuple[str, ...]:
    """Methods that deliver."""
    value = top.value("methods")
    if value is None:
        return ()
    if not isinstance(value, list) or not value or any(method not in METHODS for method in value):
        top.fault("methods", f"a list of {', '.join(METHODS)}", got(value))
        return ()
    return tuple(dict.fromkeys(value))


def parse_split(top: Section) -> str | None:
    """The pointer to the array of events."""
    value = top.value("split")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        top.fault("split", "{pointer: /path/to/the/array}", got(value))
        return None
    section = top.section("split", value, ("pointer",))
    pointer = section.value("pointer")
    try:
        if not isinstance(pointer, str):
            raise ValueError
        if pointer:
            pointer_tokens(pointer)
    except ValueError:
        section.fault("pointer", 'a JSON Pointer such as /events, or "" for the whole body', got(pointer))
        return None
    return pointer


def parse_response(top: Section) -> Response | None:
    """What an accepted delivery is answered."""
    value = top.value("response")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        top.fault("response", "{status: 200, headers: {…}, body: text}", got(value))
        return None
    section = top.section("response", value, ("status", "headers", "body"))
    status = section.value("status")
    if status is None:
        status = 202
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 299:
        section.fault("status", "200 to 299, because others tell the sender to send it again", got(status))
        status = 202
    body = section.text("body") if section.value("body") is not None else None
    if body is not None and len(body) > MOST_TEXT:
        section.fault("body", f"at most {MOST_TEXT} characters", f"{len(body)}")
    if body and status == 204:
        section.fault("body", "none, because the status is 204", got(body))
    return Response(status, _headers(section), body)


def _headers(section: Section) -> tuple[tuple[str, str], ...]:
    value = section.value("headers")
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        section.fault("headers", "a mapping of header names to text", got(value))
        return ()
    headers = []
    for name, text in value.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name) or name.lower() in _OURS:
            section.fault(f"headers.{name}"[:80], f"a header name, and none of {', '.join(_OURS)}", got(name))
        elif not isinstance(text, str) or not _HEADER_VALUE.fullmatch(text):
            section.fault(f"headers.{name}", "printable ASCII text", got(text))
        else:
            headers.append((name, text))
    return tuple(headers)


def parse_rate(top: Section) -> Rate | None:
    """How often the source may be used."""
    value = top.value("rate")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        top.fault("rate", "{limit: 100, per: 1s, burst: 200}", got(value))
        return None
    section = top.section("rate", value, ("limit", "per", "burst"))
    limit, burst, per = section.value("limit"), section.value("burst"), section.value("per")
    if not _positive(limit):
        section.fault("limit", "a number above 0", got(limit))
        limit = 1.0
    if burst is not None and (not _positive(burst) or burst < 1):
        section.fault("burst", "a number of at least 1", got(burst))
        burst = None
    try:
        seconds = 1.0 if per is None else parse_duration(per)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        section.fault("per", "a duration such as 1s, 5m or 24h", got(per))
        seconds = 1.0
    return Rate(float(limit), seconds, None if burst is None else float(burst))


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
