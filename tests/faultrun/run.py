"""One fault run: load and faults at the same time, then peace until all is done, then the checker."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.faultrun.check import Told, Verdict, calling, judge
from tests.faultrun.injuries import Planned, schedule
from tests.faultrun.load import Load
from tests.faultrun.log_rows import read
from tests.faultrun.world import World, world
from tests.system import SECRET


class Plan(msgspec.Struct, frozen=True):
    """What to do. The same seed gives the same faults at the same times.

    Args:
        events: how many events are sent, evenly over `seconds`.
        faults: how many faults come in that time.
        only: kinds of fault; empty for all.
        patience: seconds that the rest may take once the faults are over.
    """

    seed: int
    events: int
    seconds: float
    faults: int
    only: tuple[str, ...] = ()
    patience: float = 120.0


class Outcome(msgspec.Struct, frozen=True):
    """`faults` by kind; `notes`: what is worth knowing and no failure."""

    verdict: Verdict
    faults: Counter[str]
    notes: list[str]

    def line(self) -> str:
        """The last line."""
        return self.verdict.line(self.faults.total())


async def fault_run(plan: Plan, directory: Path, say: Callable[[str], None]) -> Outcome:
    """Runs the plan in `directory`, which embedded servers can live in; leaves no process behind.

    Args:
        say: told, in a few words, what happens.
    """
    chance = random.Random(plan.seed)
    faults: Counter[str] = Counter()
    async with world(directory, chance) as made:
        await made.start(chance)
        load = Load(f"{made.url}/in/hub", SECRET, plan.events, plan.seconds, chance)
        begun = time.monotonic()

        def tell(what: str) -> None:
            say(f"{time.monotonic() - begun:7.1f} s  {what}")

        async def injure(planned: Planned) -> None:
            await asyncio.sleep(max(0.0, begun + planned.at - time.monotonic()))
            if what := await planned.injury.do(made, random.Random(planned.seed)):
                faults[planned.injury.name] += 1
                tell(what)

        watch = [asyncio.create_task(work) for work in (made.supervise(tell), made.backlog(load.backlog))]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run(plan.patience))
                for planned in schedule(plan.seed, plan.faults, plan.seconds, plan.only):
                    group.create_task(injure(planned))
            tell(f"all sent, {load.again.total()} tries again; waiting for the rest")
            quiet = await made.quiet(plan.patience)
            tell("quiet" if quiet else f"not quiet after {plan.patience:g} s")
        finally:
            for task in watch:
                task.cancel()
            ends = await asyncio.gather(*watch, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):  # not the cancellation
                raise end
        await made.end()  # so that nothing changes while it is looked at
        log = await read(made.database_url)
        frozen = [one for name, member in made.members.items() if name.startswith("worker") for one in member.frozen]
        told = Told(load.acknowledged, load.given_up, calling(made.documents), frozen)
        verdict = judge(log, made.sink.calls, told)
        return Outcome(verdict, faults, _notes(made, load, verdict))


def _notes(made: World, load: Load, verdict: Verdict) -> list[str]:
    fallen = {name: member.fell for name, member in made.members.items() if member.fell}
    reasons = ", ".join(f"{count} {reason}" for reason, count in load.again.most_common())
    statuses = Counter(call.status for call in made.sink.calls)
    return [
        f"{load.again.total()} tries of senders came to nothing and were repeated: {reasons}",
        f"{statuses.total():,} calls reached the sink, {statuses[500]} were answered 500, {statuses[0]} not at all",
        f"{verdict.renamed} events were acknowledged under another id than that of their first receipt",
        f"{verdict.late} calls came late, of workers that had been frozen in the middle of them",
        *(f"{name} ended by itself {count} times" for name, count in fallen.items()),
    ]
