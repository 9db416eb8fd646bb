"""The faults: what each does to a world, and a schedule of them that one seed decides.

A schedule has every kind of fault once, as far as its length allows, then as many more as asked for, by weight. A
fault's own choices (which process, for how long) come from a seed of its own, so that they do not depend on what
happened before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec

from tests.faultrun.members import FAKETIME
from tests.faultrun.world import LEASE, WORKERS, World

STEP = 20
"""Seconds by which a running process's clock is moved, at most."""
QUICK = 6.0
"""Seconds in which so many answers should have come that one is cut."""


class Injury(msgspec.Struct, frozen=True):
    """A kind of fault. `do` answers what it did, in a few words; empty if it came to nothing."""

    name: str
    weight: int
    do: Callable[[World, random.Random], Awaitable[str]]


class Planned(msgspec.Struct, frozen=True):
    """A fault to come, `at` seconds after the start."""

    at: float
    injury: Injury
    seed: int


def _worker(chance: random.Random) -> str:
    return f"worker-{chance.randint(1, WORKERS)}"


def _kill(pick: Callable[[random.Random], str]) -> Callable[[World, random.Random], Awaitable[str]]:
    async def do(world: World, chance: random.Random) -> str:
        name, after = pick(chance), chance.uniform(0, 1.5)
        await world.restart(name, after)
        return f"SIGKILL {name}, back after {after:.1f} s"

    return do


def _freeze(pick: Callable[[random.Random], str]) -> Callable[[World, random.Random], Awaitable[str]]:
    async def do(world: World, chance: random.Random) -> str:
        name, seconds = pick(chance), LEASE + chance.uniform(0.2, 2.0)
        async with world.members[name].lock:
            await world.members[name].freeze(seconds)
        return f"SIGSTOP {name} for {seconds:.1f} s"

    return do


async def _flush(world: World, _chance: random.Random) -> str:
    await world.flush()
    return "FLUSHALL"


async def _restart_redis(world: World, chance: random.Random) -> str:
    seconds = chance.uniform(0, 2.0)
    async with world.store:
        await asyncio.to_thread(world.redis.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(world.redis.start)
    return f"Redis killed, back and empty after {seconds:.1f} s"


async def _restart_postgres(world: World, chance: random.Random) -> str:
    crash, seconds = chance.random() < 0.5, chance.uniform(0, 2.0)
    async with world.store:
        await asyncio.to_thread(world.postgres.stop, "immediate" if crash else "fast")
        await asyncio.sleep(seconds)
        await asyncio.to_thread(world.postgres.start)
    return f"PostgreSQL {'crashed' if crash else 'stopped'}, back after {seconds:.1f} s"


async def _cut(world: World, chance: random.Random) -> str:
    nth = chance.randint(1, 30)
    return f"the reply to the {nth}th write dropped" if await world.proxy.cut(nth, QUICK) else ""


async def _clock(world: World, chance: random.Random) -> str:
    name = chance.choice(sorted(world.members))
    step = chance.choice([-1, 1]) * chance.randint(1, STEP)
    world.members[name].move_clock(world.members[name].skew + step)
    return f"the clock of {name} stepped by {step:+d} s"


INJURIES = (
    Injury("kill-worker", 6, _kill(_worker)),
    Injury("kill-ingest", 2, _kill(lambda _: "ingest")),
    Injury("kill-relay", 1, _kill(lambda _: "relay")),
    Injury("freeze-worker", 4, _freeze(_worker)),
    Injury("freeze-ingest", 1, _freeze(lambda _: "ingest")),
    Injury("freeze-relay", 1, _freeze(lambda _: "relay")),
    Injury("flush-redis", 3, _flush),
    Injury("restart-redis", 2, _restart_redis),
    Injury("restart-postgres", 2, _restart_postgres),
    Injury("drop-reply", 12, _cut),
    *([Injury("move-clock", 2, _clock)] if FAKETIME is not None else []),
)
NAMES = tuple(injury.name for injury in INJURIES)


def schedule(seed: int, count: int, seconds: float, only: tuple[str, ...] = ()) -> list[Planned]:
    """`count` faults within `seconds`, in the order of their times; of the kinds named in `only`, or of all."""
    chance = random.Random(seed)
    kinds = [injury for injury in INJURIES if not only or injury.name in only]
    first = chance.sample(kinds, min(count, len(kinds)))
    rest = chance.choices(kinds, [injury.weight for injury in kinds], k=count - len(first))
    # of equal distance, and a little off, so that they seldom but sometimes come together
    times = ((number + chance.uniform(0, 2)) * seconds / (count + 1) for number in range(count))
    return [
        Planned(at, injury, chance.getrandbits(32)) for at, injury in zip(sorted(times), [*first, *rest], strict=True)
    ]
