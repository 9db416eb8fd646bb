"""What becomes of a process's work when its event loop is stuck: given back to others, by another thread.

The run that blocked is to blame and no other: its attempt stays counted and it comes back after a delay, theirs is
taken back and they are due at once. Where nobody can be named, everybody's attempt counts, as in a crash: who has two
is a suspect, and is claimed alone (`events.work`), so that the culprit cannot take the others with it for ever.

Synchronous nodes are killed first, so that none runs here and elsewhere at the same time. What was being claimed at the
moment of the block is not known here and comes back with its lease, and so does all when the log is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from events.database import Database
from events.errors import HeadraceError
from events.settings import Settings
from events.work import Held, WorkList
from executor.engine.leases import Leases
from executor.engine.processes import KillablePool
from executor.worker.watchdog import Culprit

TIMEOUT = 5.0
"""Seconds that a statement may take here."""

_log = structlog.get_logger(__name__)


class HandOver:
    """Gives back all that a process holds.

    Args:
        owner: whose the items are, as they were claimed.
    """

    def __init__(self, settings: Settings, owner: str, leases: Leases, pool: KillablePool) -> None:
        self._settings = settings
        self._owner = owner
        self._leases = leases
        self._pool = pool

    def __call__(self, blamed: Culprit | None, seconds: float) -> None:
        """Kills what runs in processes and gives the work back.

        Args:
            blamed: what blocked the loop; None: nobody knows.
            seconds: for how long; the culprit's delay is as long.
        """
        self._pool.kill_now()
        try:
            asyncio.run(self._give_back(blamed, seconds))
        except HeadraceError as error:
            _log.error("loop.not_given_back", error=str(error))

    async def _give_back(self, blamed: Culprit | None, seconds: float) -> None:
        database = Database(self._settings.database_url, "worker", size=1, timeout=TIMEOUT)
        try:
            await database.open()
            work = WorkList(database, owner=self._owner, lease=self._settings.lease)
            culprits, others = share(self._leases, blamed)
            failed = await work.fail(culprits, 0.0 if blamed is None else seconds, reason(blamed, seconds))
            given = await work.give_back(others)
            known = {*culprits, *others}  # should the loop have come back meanwhile, it may have claimed more
            given |= await work.give_back([one for one in share(self._leases, None)[0] if one not in known])
        finally:
            await database.close()
        _log.warning("loop.given_back", others=len(given), blamed=len(failed))


def share(leases: Leases, blamed: Culprit | None) -> tuple[Sequence[Held], Sequence[Held]]:
    """Who has an attempt counted, and who is given back for nothing."""
    held = [(holding.id, holding.token) for holding in leases.holdings()]
    orphans = leases.orphans()
    if blamed is None:
        return held, orphans
    return [one for one in held if one[0] == blamed.item], [one for one in held if one[0] != blamed.item] + orphans


def reason(blamed: Culprit | None, seconds: float) -> str:
    """What stands in the work item, and in the reason when it is parked."""
    if blamed is None:
        return f"its worker's event loop was blocked for {seconds:.1f} s by something outside of any node"
    if blamed.node is None:
        return f"carrying it on blocked its worker's event loop for {seconds:.1f} s, outside of any node"
    return (
        f"node {blamed.node!r} ({blamed.uses}) blocked its worker's event loop for {seconds:.1f} s: expected an "
        "`async def` that awaits; make it a plain `def`, which runs in a process that is killed at its timeout"
    )
