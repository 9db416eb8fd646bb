"""Whatever nodes do and people say, a run keeps the rules: on graphs with joins, maps, waits, compensations."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.workflow.facts import RunCompleted, RunFact, decode, encode
from executor.workflow.state import RunState, evolve
from tests.unit.workflow.simulation import Simulation, random_graph

SEEDS = st.integers(0, 2**32)
TROUBLE = st.sampled_from([0.0, 0.2, 0.5, 0.9])
MANY = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def carried(seed: int, trouble: float) -> tuple[Simulation, RunFact]:
    random = Random(seed)
    run = Simulation(random_graph(random), random, trouble)
    return run, run.drive()


def folded(facts: list[RunFact], state: RunState | None = None) -> RunState:
    for fact in facts:
        state = evolve(state, fact)
    assert state is not None
    return state


@MANY
@given(SEEDS, TROUBLE)
def test_a_run_keeps_the_rules_and_ends(seed: int, trouble: float) -> None:
    """The rules are in `Simulation`."""
    run, end = carried(seed, trouble)
    if trouble == 0.0 and run.graph.timeout is None:
        assert isinstance(end, RunCompleted)


@MANY
@given(SEEDS)
def test_an_ended_run_goes_on_from_what_failed(seed: int) -> None:
    run, end = carried(seed, 0.5)
    if isinstance(end, RunCompleted):
        return
    run.reopen()
    end = run.drive()
    if run.graph.timeout is None:
        assert isinstance(end, RunCompleted), "nothing fails any more"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS, TROUBLE)
def test_the_fold_of_the_log_is_the_state_from_any_snapshot_on(seed: int, trouble: float) -> None:
    run, end = carried(seed, trouble)
    if not isinstance(end, RunCompleted):
        run.reopen()
        run.drive()
    logged = [decode(*encode(fact)) for fact in run.history]
    assert folded(logged) == run.state
    for cut in range(1, len(logged)):
        snapshot = msgspec.msgpack.encode(folded(logged[:cut]))
        assert folded(logged[cut:], msgspec.msgpack.decode(snapshot, type=RunState)) == run.state
