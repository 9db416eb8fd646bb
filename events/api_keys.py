"""API keys: who may ask the console what, in which workspace.

A key reads `hrk_<prefix>_<secret>`: 8 characters that find its row, and 43 that are 256 random bits. It is shown once,
when it is made; the database has the SHA-256 of the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from enum import StrEnum
from uuid import UUID

import msgspec

from events.database import Database
from events.errors import ConfigError, NotFound
from events.ids import uuid7

USED_AGAIN = 60.0
"""Seconds after which the use of a key is noted again: one write a minute at most."""

_TEXT = re.compile(r"hrk_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_FIND = """
SELECT k.id, k.workspace_id, k.name, k.role, k.hash,
  k.last_used_at IS NULL OR k.last_used_at < now() - make_interval(secs => $2) AS note
FROM api_key k
WHERE k.prefix = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
"""
_LIST = """
SELECT k.id, w.slug, k.name, k.role, k.prefix, extract(epoch FROM k.created_at)::float8,
  extract(epoch FROM k.expires_at)::float8, extract(epoch FROM k.last_used_at)::float8,
  extract(epoch FROM k.revoked_at)::float8
FROM api_key k JOIN workspace w ON w.id = k.workspace_id
WHERE $1::int IS NULL OR k.workspace_id = $1 ORDER BY k.created_at, k.id
"""
_ADD = """
INSERT INTO api_key (id, workspace_id, name, role, prefix, hash, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7)) ON CONFLICT DO NOTHING RETURNING id
"""


class Role(StrEnum):
    """What a key may do, each what those before it may: look; start and steer runs; change definitions."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, wanted: Role) -> bool:
        """Whether this role may do what `wanted` may."""
        order = list(Role)
        return order.index(self) >= order.index(wanted)


class Principal(msgspec.Struct, frozen=True):
    """Who asks: a key that is valid now."""

    id: UUID
    workspace_id: int
    name: str
    role: Role


class ApiKey(msgspec.Struct, frozen=True):
    """A key in lists; times are Unix seconds."""

    id: UUID
    workspace: str
    name: str
    role: Role
    prefix: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None


async def add(database: Database, workspace_id: int, name: str, role: Role, lifetime: float | None = None) -> str:
    """Makes a key; its text, which nobody can be told again.

    Args:
        lifetime: seconds until it expires; None: it does not.

    Raises:
        ConfigError: the workspace has a key of that name which is not revoked.
    """
    prefix, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    id = uuid7(database.clock.now())
    rows = await database.fetch(_ADD, id, workspace_id, name, role.value, prefix, _hash(secret), lifetime)
    if not rows:
        raise ConfigError("API key", [f"{name}: expected a name that is free in its workspace, got one in use"])
    return f"hrk_{prefix}_{secret}"


async def find(database: Database, text: str) -> Principal | None:
    """Whose key this is; None for what is none, or is unknown, revoked or expired."""
    match = _TEXT.fullmatch(text)
    rows = await database.fetch(_FIND, match[1], USED_AGAIN) if match is not None else []
    stored = rows[0]["hash"] if rows else bytes(32)
    if not hmac.compare_digest(stored, _hash(match[2] if match is not None else "")) or not rows:
        return None
    row = rows[0]
    if row["note"]:
        await database.fetch("UPDATE api_key SET last_used_at = now() WHERE id = $1", row["id"])
    return Principal(row["id"], row["workspace_id"], row["name"], Role(row["role"]))


async def listed(database: Database, workspace_id: int | None = None) -> list[ApiKey]:
    """All keys, or those of a workspace, the oldest first."""
    return [ApiKey(row[0], row[1], row[2], Role(row[3]), *row[4:]) for row in await database.fetch(_LIST, workspace_id)]


async def revoke(database: Database, workspace_id: int, name: str) -> None:
    """Makes a key invalid, at once and for good.

    Raises:
        NotFound: the workspace has no such key.
    """
    rows = await database.fetch(
        "UPDATE api_key SET revoked_at = now() WHERE workspace_id = $1 AND name = $2 AND revoked_at IS NULL "
        "RETURNING id",
        workspace_id,
        name,
    )
    if not rows:
        raise NotFound(f"no API key {name!r} that is valid; `headrace keys list` lists them")


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
