"""What an `Hmac` authenticates of a request, for whoever has to tell deliveries apart that have no id.

Promises: the signed parts and nothing beside them: no signature, of which a request may carry others that nobody looks
at, and no part of its header but the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.verify.base import Covered, Incoming, Refused, body_or_address
from ingest.verify.mac_parts import PLACEHOLDER, reader

if TYPE_CHECKING:  # a description says what it covers with what is here
    from ingest.verify.mac import Hmac


def covered_by_hmac(scheme: Hmac) -> Covered:
    """The function of one description; see `Description.covered`."""
    used = set(PLACEHOLDER.findall(scheme.signed))
    beside = [name for name in ("timestamp", "id", "method", "path", "query", "url") if name in used]
    if not beside:
        return body_or_address
    addressed = not used.isdisjoint(("query", "url"))
    read, id_header = reader(scheme), scheme.id_header.lower().encode()

    def covered(incoming: Incoming) -> list[bytes]:
        found = read(incoming.headers)
        values = {
            "timestamp": b"" if isinstance(found, Refused) else found[1],
            "id": incoming.headers.get(id_header, b""),
            "method": incoming.method.encode("utf-8", "replace"),
            "path": incoming.path.encode("utf-8", "replace"),
            "query": incoming.query,
            "url": incoming.query,  # the rest of it is the source's own
        }
        first = (b"hash", incoming.body) if addressed else body_or_address(incoming)
        return [*first, *(values[name] for name in beside)]

    return covered
