"""Keeps what the door refused, for staff to look at and to check again once the source was corrected.

Whoever is refused must cost little: `keep` answers None, quickly and whatever happens, when the request is not kept.

- A source whose hour is used up is remembered, and the database is not asked until the next hour.
- Nothing waits longer than `WAIT`, and nothing at all while PostgreSQL is away: a failure is remembered for `PAUSE`.
- What waits for its commit is bounded in requests and in bytes.

What people may see (`headrace rejected show`) holds no credentials. What a check needs, all headers and the query as
they came, is sealed with the secret key, bound to the row; without a key it is not kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

import msgspec
import structlog

from events.database import Database
from events.errors import BadRow, HeadraceError
from events.ids import uuid7
from events.journal import Journal
from events.rejections import HOUR, Full, Kept, Quota, Rejection, Use, hours_kept, keep
from events.secretbox import SecretBox
from ingest.verify.base import Incoming

WAIT = 1.0
"""Seconds that a refusal waits for its request to be kept, at most."""
PAUSE = 1.0
"""Seconds without a try after one failed."""
MOST_WAITING = 64
"""Requests that wait for their commit, at most."""
MOST_BYTES = 16 << 20
"""Bytes of them, at most; a single larger one waits alone."""
SHORT = 500
"""Characters of a path, a query or a reason that are kept."""

_log = structlog.get_logger(__name__)


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What of a request only a check may see."""

    query: bytes
    headers: list[tuple[bytes, bytes]]


def sealed_context(id: UUID) -> str:
    """What the sealed part of a refused request is bound to."""
    return f"rejected/{id}"


class Rejections:
    """Refused requests on their way to the database, as one ingest process keeps them.

    Args:
        box: seals headers and query; None: these are not kept.
        per_hour: requests per source and hour; 0 keeps none.
        bytes_per_hour: bytes per source and hour.
        retention: seconds that the relay lets them live.
    """

    def __init__(
        self, database: Database, box: SecretBox | None, per_hour: int, bytes_per_hour: int, *, retention: float
    ) -> None:
        self._database = database
        self._box = box
        self._quota = Quota(per_hour, bytes_per_hour, hours_kept(retention))
        self._uses: dict[int, Use] = {}
        """By source, what is known to be used up: other processes may have used more."""
        self._journal: Journal[Rejection, Kept | Full] = Journal(self._write, _size, max_waiting=MOST_WAITING)
        self._waiting_bytes = 0
        self._writing_since: float | None = None
        self._late = False  # whether the last one that waited for a commit gave up
        self._paused_until = 0.0

    async def keep(
        self,
        *,
        workspace_id: int,
        source_id: int,
        slug: str,
        incoming: Incoming,
        raw_headers: list[tuple[bytes, bytes]],
        redacted_headers: bytes,
        reason: str,
        now: float,
    ) -> UUID | None:
        """Keeps a refused request; the id under which staff finds it, or None.

        Args:
            raw_headers: as ASGI has them; they are sealed or not kept.
            redacted_headers: the lines that people may see.
            now: when it was received, in Unix seconds by the database's clock.
        """
        if not self._worth_a_try(source_id, len(incoming.body) + len(redacted_headers), now):
            return None
        try:
            id = uuid7(now)
            one = Rejection(
                id,
                workspace_id,
                source_id,
                _storable(reason),
                _metadata(slug, incoming),
                redacted_headers,
                self._seal(id, incoming.query, raw_headers),
                incoming.body,
            )
            if not self._worth_a_try(source_id, one.size, now):
                return None
            future = self._queue(one)
            await asyncio.wait([future], timeout=WAIT)
            self._late = not future.done()
            return one.id if future.done() and isinstance(future.result(), Kept) else None
        except HeadraceError:  # `_write` told of it
            return None
        except Exception as error:
            _log.error("rejection.not_kept", source=slug, error_type=type(error).__name__)
            return None

    async def drain(self) -> None:
        """Returns when all that waits has been kept or given up."""
        await self._journal.drain()

    def _worth_a_try(self, source_id: int, size: int, now: float) -> bool:
        """Whether asking the database could keep anything."""
        if time.monotonic() < self._paused_until or self._stuck() or self._quota.per_hour <= 0:
            return False
        if self._waiting_bytes and self._waiting_bytes + size > MOST_BYTES:
            return False
        use = self._uses.get(source_id)
        if use is None or now >= use.hour + HOUR:
            use = Use(now, 0, 0)
        return use.has_room(size, self._quota)

    def _stuck(self) -> bool:
        since = self._writing_since
        return since is not None and (self._late or time.monotonic() - since > WAIT)

    def _seal(self, id: UUID, query: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        if self._box is None:
            return None
        return self._box.seal(msgspec.msgpack.encode(Sealed(query, headers)), sealed_context(id))

    def _queue(self, one: Rejection) -> asyncio.Future[Kept | Full]:
        future = self._journal.append(one)
        size = one.size
        self._waiting_bytes += size

        def answered(_: object) -> None:
            self._waiting_bytes -= size

        future.add_done_callback(answered)
        return future

    async def _write(self, batch: Sequence[Rejection]) -> list[Kept | Full]:
        self._writing_since = time.monotonic()
        try:
            results = await keep(self._database, batch, self._quota)
        except BadRow:  # says nothing about the next one
            raise
        except HeadraceError as error:
            self._paused_until = time.monotonic() + PAUSE
            _log.warning("rejections.not_kept", requests=len(batch), error_type=type(error).__name__)
            raise
        finally:
            self._writing_since = None
        for one, result in zip(batch, results, strict=True):
            self._uses[one.source_id] = result.use or self._spent()
        return results

    def _spent(self) -> Use:
        """The use of a source that has too many hours: it is asked for again in the next one."""
        now = self._database.clock.now()
        return Use(now - now % HOUR, self._quota.per_hour, self._quota.bytes_per_hour)


def _size(one: Rejection) -> int:
    return one.size


def _metadata(slug: str, incoming: Incoming) -> str:
    """The facts about a request as JSON text: only what is there, and nothing secret."""
    facts: dict[str, object] = {
        "source": slug,
        "method": _storable(incoming.method),
        "path": _storable(incoming.path),
        "size": len(incoming.body),
    }
    if incoming.query:
        facts["query"] = _storable(_names_only(incoming.query).decode("utf-8", "replace"))
    if incoming.peer:
        facts["peer"] = _storable(incoming.peer)
    content_type = incoming.headers.get(b"content-type")
    if content_type is not None:
        facts["content_type"] = _storable(content_type.decode("latin-1"))
    return msgspec.json.encode(facts).decode()


def _names_only(query: bytes) -> bytes:
    """A query without its values: which of them is a credential depends on the source, and a sender may err."""
    parts = (part.partition(b"=") for part in query.split(b"&"))
    return b"&".join(name + b"=[redacted]" if equals else b"[redacted]" for name, equals, _ in parts)


def _storable(text: str) -> str:
    """The text cut short, without what PostgreSQL cannot hold (NUL, lone surrogates)."""
    return text[:SHORT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
