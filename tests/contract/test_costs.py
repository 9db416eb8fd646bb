"""Cost classes: what is reserved, what is settled, and that nobody gets past a limit."""

from __future__ import annotations

import asyncio
import time

import pytest

from events import costs, workspaces
from events.costs import ALL, Busy, Call, Granted, Later, Limit, Spent
from events.errors import ConfigError, HeadraceError, NotFound
from events.ids import uuid7
from tests.contract.world import World

pytestmark = pytest.mark.anyio


def call(cls: str = "llm", cost: float = 0.0, workspace: int = 1) -> Call:
    return Call(uuid7(time.time()), workspace, cls, "w", uuid7(time.time()), "n", cost)


async def limit(everyone: World, workspace: int = 1, cls: str = "llm", **more: float) -> None:
    await costs.change(everyone.operator, workspace, cls, Limit(**more))  # type: ignore[arg-type]


async def ask(everyone: World, one: Call, seconds: float = 60.0) -> Granted | Later | Busy | Spent:
    return await costs.reserve(everyone.worker, one, seconds)


async def expire(everyone: World, one: Call) -> None:
    await everyone.admin.execute("UPDATE cost_hold SET until = now() - interval '1 s' WHERE id = $1", one.id)


async def test_without_a_limit_calls_are_counted_and_no_more(everyone: World) -> None:
    one = call(cost=5.0)
    assert await ask(everyone, one) == Granted()
    assert await costs.settle(everyone.worker, one.id, 7.5)
    assert not await costs.settle(everyone.worker, one.id, 7.5), "once"
    (used,) = await costs.usage(everyone.operator, 0.0, by_workflow=True, by_run=True)
    assert (used.workspace, used.cls, used.workflow, used.run_id, used.calls, used.cost) == (
        "default",
        "llm",
        "w",
        one.run_id,
        1,
        7.5,
    )


async def test_so_many_calls_at_once_over_all_workers(everyone: World) -> None:
    await limit(everyone, concurrent=3)
    calls = [call() for _ in range(20)]
    held: list[Call] = []
    while calls:
        answers = await asyncio.gather(*[ask(everyone, one) for one in calls])
        granted = [one for one, answer in zip(calls, answers, strict=True) if answer == Granted()]
        held += granted
        assert len(held) == min(3, len(calls) + len(held) - len(granted))
        assert {type(answer) for answer in answers} <= {Granted, Busy}
        calls = [one for one in calls if one not in granted]
        for one in held[:2]:
            await costs.settle(everyone.worker, one.id, 1.0)
        held = held[2:]
    assert (await costs.usage(everyone.operator, 0.0))[0].calls == 20 - len(held)


async def test_asking_again_for_the_same_call_takes_no_second_place(everyone: World) -> None:
    await limit(everyone, concurrent=1, daily=10.0)
    one = call(cost=6.0)
    assert await ask(everyone, one) == Granted()
    assert await ask(everyone, one) == Granted(), "its worker died, and another makes the same attempt"
    answer = await ask(everyone, call(cost=1.0))
    assert isinstance(answer, Busy)
    assert answer.reason == "a call of llm: 1 of 1 of this workspace are under way"


async def test_a_rate_lets_a_burst_through_and_tells_the_rest_when(everyone: World) -> None:
    await limit(everyone, requests=5, per=100.0)
    calls = [call() for _ in range(8)]
    answers = [await ask(everyone, one) for one in calls]
    assert answers[:5] == [Granted()] * 5
    waits = [answer.seconds for answer in answers[5:] if isinstance(answer, Later)]
    assert [round(seconds / 20) for seconds in waits] == [1, 2, 3], "one each 20 s, in the order in which they asked"
    again = await ask(everyone, calls[5])
    assert isinstance(again, Later)
    assert again.seconds <= waits[0], "asking again costs nothing and changes nothing"
    await everyone.admin.execute("UPDATE cost_hold SET begins = now() WHERE id = $1", calls[5].id)
    assert await ask(everyone, calls[5]) == Granted()


async def test_a_cost_rate_counts_what_calls_came_to(everyone: World) -> None:
    await limit(everyone, cost=100.0, per=100.0)
    first = call(cost=60.0)
    assert await ask(everyone, first) == Granted()
    assert isinstance(await ask(everyone, call(cost=60.0)), Later)
    await everyone.admin.execute("DELETE FROM cost_hold WHERE id <> $1", first.id)
    await everyone.admin.execute("UPDATE cost_limit SET cost_tat = now() + interval '60 s'")
    assert await costs.settle(everyone.worker, first.id, 10.0), "it came to less"
    assert await ask(everyone, call(cost=60.0)) == Granted()


async def test_a_budget_stops_with_a_reason_and_counts_what_is_reserved(everyone: World) -> None:
    await limit(everyone, daily=10.0, monthly=15.0)
    first = call(cost=6.0)
    assert await ask(everyone, first) == Granted()
    refused = await ask(everyone, call(cost=6.0))
    assert isinstance(refused, Spent)
    assert refused.reason == "the budget of this workspace for llm today: 0 of 10 are spent, 6 reserved"
    assert 0 < refused.seconds <= 86_400
    await costs.settle(everyone.worker, first.id, 9.5)
    refused = await ask(everyone, call(cost=1.0))
    assert isinstance(refused, Spent)
    assert "9.5 of 10 are spent, 0 reserved" in refused.reason
    await everyone.admin.execute("UPDATE cost_limit SET day = day - 1")
    second = call(cost=5.0)
    assert await ask(everyone, second) == Granted(), "another day"
    await costs.settle(everyone.worker, second.id, 5.5)
    refused = await ask(everyone, call())
    assert isinstance(refused, Spent)
    assert "this month: 15 of 15 are spent" in refused.reason
    assert await everyone.admin.fetchval("SELECT count(*) FROM cost_hold") == 0
    (row,) = await costs.limits(everyone.operator)
    assert (row.workspace, row.today, row.this_month, row.limit.monthly) == ("default", 5.5, 15.0, 15.0)


async def test_many_who_reserve_at_once_do_not_overspend(everyone: World) -> None:
    await limit(everyone, daily=10.0)
    answers = await asyncio.gather(*[ask(everyone, call(cost=1.0)) for _ in range(40)])
    assert sum(answer == Granted() for answer in answers) == 10


async def test_limits_of_all_workspaces_and_of_each_hold_together(everyone: World) -> None:
    other = await workspaces.add(everyone.operator, "other", "unlimited")
    await limit(everyone, ALL, concurrent=3)
    await limit(everyone, 1, concurrent=2)
    assert [await ask(everyone, call()) for _ in range(2)] == [Granted()] * 2
    assert isinstance(await ask(everyone, call()), Busy)
    assert await ask(everyone, call(workspace=other)) == Granted()
    answer = await ask(everyone, call(workspace=other))
    assert isinstance(answer, Busy)
    assert "3 of 3 of all workspaces" in answer.reason
    assert await ask(everyone, call("search")) == Granted(), "another class"


async def test_the_hold_of_a_dead_worker_ends_and_is_charged(everyone: World) -> None:
    await limit(everyone, concurrent=1, daily=100.0, requests=1, per=1000.0)
    dead = call(cost=40.0)
    assert await ask(everyone, dead) == Granted()
    waiting = call()
    assert isinstance(await ask(everyone, waiting), Busy)
    await everyone.admin.execute("UPDATE cost_limit SET requests_tat = '-infinity'")
    await expire(everyone, dead)
    assert await ask(everyone, waiting) == Granted()
    assert not await costs.settle(everyone.worker, dead.id, 1.0)
    (used,) = await costs.usage(everyone.operator, 0.0)
    assert (used.calls, used.cost) == (1, 40.0)
    # A place in the line that nobody came back for costs nothing.
    late = call(cost=5.0)
    await costs.settle(everyone.worker, waiting.id, 0.0)
    assert isinstance(await ask(everyone, late), Later)
    await expire(everyone, late)
    await ask(everyone, call())
    assert sum(one.calls for one in await costs.usage(everyone.operator, 0.0)) == 2


async def test_limits_are_changed_and_taken_away_by_operators_alone(everyone: World) -> None:
    with pytest.raises(ConfigError, match="expected at least one of"):
        await limit(everyone)
    with pytest.raises(NotFound):
        await costs.remove(everyone.operator, 1, "llm")
    await limit(everyone, concurrent=1)
    for statement in (
        "UPDATE cost_limit SET daily = 1e9",
        "DELETE FROM cost_hold",
        "SELECT spend_cost('llm', 1, 1, 1)",
    ):
        with pytest.raises(HeadraceError, match="permission denied"):
            await everyone.worker.fetch(statement)
    assert await ask(everyone, call()) == Granted()
    await costs.remove(everyone.operator, 1, "llm")
    assert await ask(everyone, call()) == Granted()
