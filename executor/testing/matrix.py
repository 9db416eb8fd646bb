"""The crash matrix: a workflow is killed before and after each of its commits, resumed, and must come to the same.

What has to be equal: how every run ended, its output and its nodes' outputs, what was emitted. What may differ: how
often a node was called whose outcome was not committed when the crash came; it then sees the same idempotency key. A
node whose completion was committed must not be called again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from executor.testing.bench import Bench, RunResult
from executor.testing.memory import Crash
from executor.testing.stubs import Stub
from executor.workflow.facts import NodeCompleted


class CrashReport(msgspec.Struct, frozen=True):
    """`points`: the crashes that were tried. `faults`: what differed, each with its point; empty when all is well."""

    points: int
    faults: tuple[str, ...]


class _Trigger:
    """Lets the process die at the n-th passage (from 0); with None it only counts."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.passed = 0

    def __call__(self, where: str) -> None:
        here, self.passed = self.passed, self.passed + 1
        if here == self.at:
            raise Crash(f"{where} commit {here // 2}")


def crash_matrix(
    documents: str | Sequence[Mapping[str, Any]],
    event: tuple[str, str, Any],
    *,
    stubs: Mapping[str, Stub] = {},
    node_modules: Sequence[str] = (),
    then: Callable[[Bench], None] = Bench.finish,
    check: bool = True,
) -> CrashReport:
    """Runs the event through the workflows once undisturbed, and once for each place where a crash can come.

    Args:
        event: (source, type, body).
        stubs: as for a Bench. They have to answer by what they are asked, not by how often.
        then: what happens after the delivery: further events, decisions, time. By default time goes on to the end.
        check: raise instead of reporting.

    Raises:
        AssertionError: with `check`, something differed.
    """

    def run(trigger: _Trigger) -> Bench:
        bench = Bench(documents, stubs=stubs, node_modules=node_modules, crashes=trigger)
        bench.deliver(*event)
        then(bench)
        return bench

    counter = _Trigger(None)
    expected = _outcome(run(counter))
    faults: list[str] = []
    for point in range(counter.passed):
        bench = run(_Trigger(point))
        where = f"crash {'after' if point % 2 else 'before'} commit {point // 2}"
        faults += [f"{where}: {fault}" for fault in (*_differences(expected, _outcome(bench)), *_doubled(bench))]
    report = CrashReport(counter.passed, tuple(faults))
    if check and faults:
        raise AssertionError("\n".join(faults))
    return report


def _outcome(bench: Bench) -> dict[str, Any]:
    """What has to be the same, without ids and times, which are not."""
    return {
        "runs": sorted((_plain(run) for run in bench.runs), key=repr),
        "emitted": sorted((emit.type, emit.body) for emit in bench.emitted),
    }


def _plain(run: RunResult) -> tuple[Any, ...]:
    return run.workflow, run.status, _without_ids(run.outputs), _without_ids(run.output), run.error is None


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "…" if k in {"id", "run_id", "at", "received_at"} else _without_ids(v) for k, v in value.items()}
    return [_without_ids(part) for part in value] if isinstance(value, list) else value


def _differences(expected: dict[str, Any], got: dict[str, Any]) -> list[str]:
    return [f"{name}: expected {expected[name]}, got {got[name]}" for name in expected if expected[name] != got[name]]


def _doubled(bench: Bench) -> list[str]:
    """Nodes that completed twice, and attempts under a key that is not the node's own."""
    faults = []
    for run in bench.runs:
        completed = [fact.node for fact in run.facts if isinstance(fact, NodeCompleted)]
        faults += [f"{node} completed twice" for node in sorted(set(completed)) if completed.count(node) > 1]
    keys: dict[str, set[str]] = {}
    for call in bench.calls:
        keys.setdefault(call.idempotency_key, set()).add(call.node)
    faults += [f"one idempotency key for {', '.join(sorted(nodes))}" for nodes in keys.values() if len(nodes) > 1]
    return faults
