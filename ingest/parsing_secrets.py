"""Reads the secrets of a source, or one of an endpoint, as people write them: where they are, and how long they count.

secrets:
  - {env: SHOP_SECRET}                               # or {file: path}, {value: text}, or plain text
  - {env: SHOP_SECRET_OLD, until: 2026-12-31T00:00:00Z}   # replaced without a gap
  - {env: VERIFY_TOKEN, for: handshake}              # for the provider's greeting, not for signatures
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ingest.definition import FromEnv, FromFile, SecretRef, Written
from ingest.reading import Section, got, got_kind
from ingest.verify.base import Description
from ingest.verify.unsigned import Unsigned

_FORMS = "{env: NAME}, {file: path}, {value: text} or plain text"


def parse_secrets(top: Section, scheme: Description | None) -> tuple[SecretRef, ...]:
    """All secrets of a source whose scheme is known (None: it is not, and that is a fault already)."""
    value = top.value("secrets")
    if value is not None and not isinstance(value, list):
        top.fault("secrets", f"a list of {_FORMS}", got_kind(value))
        return ()
    found = [_secret(top, f"secrets[{index}]", item) for index, item in enumerate(value or [])]
    references = tuple(reference for reference in found if reference is not None)
    signing = sum(not reference.handshake for reference in references)
    if isinstance(scheme, Unsigned) and signing:
        top.fault("secrets", "none, because preset none verifies nothing", f"{signing}")
    if scheme is not None and not scheme.secretless and not signing and len(references) == len(found):
        top.fault("secrets", "at least one, or preset none, which verifies nothing", "none")
    return references


def _secret(top: Section, path: str, value: Any) -> SecretRef | None:
    """One secret of a source: see the header."""
    if not isinstance(value, Mapping):
        return parse_secret(top, path, value)
    until, handshake = _until(top, path, value.get("until")), False
    match value.get("for"):
        case None:
            pass
        case "handshake":
            handshake = True
        case other:
            top.fault(f"{path}.for", "handshake, or nothing, which is for signatures", got(other))
    where = {key: item for key, item in value.items() if key not in ("until", "for")}
    match parse_secret(top, path, where):
        case FromEnv(name=name):
            return FromEnv(name=name, until=until, handshake=handshake)
        case FromFile(path=file):
            return FromFile(path=file, until=until, handshake=handshake)
        case Written() as written:
            return Written.of(written.text() or "", until=until, handshake=handshake)
        case _:
            return None


def _until(top: Section, path: str, value: Any) -> float | None:
    """Unix seconds of an RFC 3339 time, which has a zone; YAML may have read it as a time already."""
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        top.fault(f"{path}.until", "a time with its zone, such as 2026-12-31T00:00:00Z", got(value))
        return None
    return moment.timestamp()


def parse_secret(top: Section, path: str, value: Any) -> SecretRef | None:
    """One secret as people write it; None, and a fault noted, if it is none of the four forms."""
    match value:
        case str() if value.strip():
            return Written.of(value)
        case {"value": str(text), **rest} if text.strip() and not rest:
            return Written.of(text)
        case {"env": str(name), **rest} if name.strip() and not rest:
            return FromEnv(name=name)
        case {"file": str(file), **rest} if file.strip() and not rest:
            return FromFile(path=file)
        case _:
            top.fault(path, _FORMS, got_kind(value))
            return None
