"""Whether ingest would take a delivery now, and where it would keep it."""

from __future__ import annotations

import msgspec


class Ready(msgspec.Struct, frozen=True):
    """A delivery goes to the log now. `refused`: rows in the spool that the log refused; somebody should look."""

    refused: int = 0


class Spooling(msgspec.Struct, frozen=True):
    """A delivery goes to the spool now. `age`: seconds that the oldest row has waited; sizes are bytes."""

    rows: int
    size: int
    age: float
    refused: int
    reason: str


class Full(msgspec.Struct, frozen=True):
    """A delivery is refused: the spool is full, and PostgreSQL is away."""

    rows: int
    size: int
    refused: int
    reason: str


class NotReady(msgspec.Struct, frozen=True):
    """A delivery is refused."""

    reason: str


Readiness = Ready | Spooling | Full | NotReady
