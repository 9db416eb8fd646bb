"""Identifiers: UUIDv7 for streams and work, 16-byte keys for dedup.

UUIDv7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, the version, 12 bits, the variant, 62 bits. The event table is
partitioned by it, so the time inside an id must agree with the database's clock and not with this host's: a host whose
clock is wrong would ask for a partition that does not exist. `Clock` holds the measured offset.
"""

from __future__ import annotations

import hashlib
import os
import time
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT = 0x2 << 62
_RANDOM_MASK = (1 << 76) - 1
_KEEP = ((1 << 48) - 1) << 80 | 0xFFF << 64 | (1 << 62) - 1


class Clock:
    """The database's time, estimated on this host.

    `offset` is database minus host, in seconds; connecting code measures it (see `events.database`) and updates it.
    """

    __slots__ = ("offset",)

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def now(self) -> float:
        """Unix seconds by the database's clock."""
        return time.time() + self.offset


def uuid7(now: float) -> UUID:
    """A new UUIDv7 whose time part is `now` (Unix seconds)."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (int(now * 1000) << 80) | (random & _RANDOM_MASK)
    return UUID(int=value & _KEEP | _VERSION_7 | _VARIANT)


def uuid7_floor(at: float) -> UUID:
    """The smallest UUIDv7-ordered value for `at` (Unix seconds): the bound of a partition."""
    return UUID(int=int(at * 1000) << 80)


def uuid7_time(value: UUID) -> float:
    """The Unix seconds inside a UUIDv7."""
    return (value.int >> 80) / 1000


def derived_id(parent: UUID, *names: str) -> UUID:
    """A UUIDv7 that is the same whenever it is derived again: the parent's time, and a hash of parent and names.

    Runs get their ids like this, so that a delivery routed twice names the same runs.
    """
    digest = hashlib.blake2b("\0".join(names).encode(), key=parent.bytes, digest_size=10).digest()
    value = parent.int >> 80 << 80 | (int.from_bytes(digest, "big") & _RANDOM_MASK)
    return UUID(int=value & _KEEP | _VERSION_7 | _VARIANT)


def item_ids(batch: UUID, count: int) -> list[UUID]:
    """The ids of a batch's items, in their order: known to whoever knows the batch's."""
    return [derived_id(batch, str(index)) for index in range(count)]


def dedup_key(*parts: bytes) -> bytes:
    """16 bytes that stand for the parts (BLAKE2b-128, each part preceded by its length so that joins differ)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
