"""An attempt at a node that the engine carries out itself (`workflow.controls`): waits, child runs, maps, events.

Nothing here waits. An attempt ends in the fact that the node waits (or is done), with the effects that belong into the
same commit: a child run, a subscription, an emitted event. Ids of what is started are derived from the run, the node
and the attempt, so that an attempt that is made again after a crash names the same ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from events.ids import derived_id
from events.runs import Effect, Emit, NewRun, StartRun, Subscribe
from events.settings import parse_duration
from executor.engine.held import Held
from executor.workflow import controls
from executor.workflow.controls import CONTROLS, EMITTED, MOST_DEPTH, MOST_ITEMS, MOST_LOOK_BACK
from executor.workflow.facts import NodeMapped, NodeWaiting, RunStarted, encode
from executor.workflow.graph import Graph, GraphNode
from executor.workflow.inputs import check_input
from executor.workflow.matching import key_of
from executor.workflow.outcomes import Completed, Failed, NodeError
from executor.workflow.waits import ForApproval, ForChild, ForEvent, ForTime, Wait

FindWorkflow = Callable[[str, int], Awaitable[Graph]]
"""The current version of a workflow by its name. Raises NodeError (`input`) when there is none."""


class Begun(msgspec.Struct, frozen=True):
    """What an attempt came to, and what belongs into the same commit."""

    fact: NodeWaiting | NodeMapped | Completed
    effects: tuple[Effect, ...] = ()


class Control:
    """Makes the attempts at control nodes.

    Args:
        find: finds the workflows that `workflow.run` starts.
    """

    def __init__(self, find: FindWorkflow) -> None:
        self._find = find

    async def begin(  # noqa: PLR0911, PLR0917 - one case for each control node
        self, run: Held, node: GraphNode, path: str, attempt: int, scope: Mapping[str, Any], now: float
    ) -> Begun | Failed:
        """One attempt. Raises NodeError where inputs do not fit, and ExpressionError."""
        kind = CONTROLS[node.uses].inputs
        assert kind is not None
        try:
            inputs = msgspec.convert(node.inputs.render(scope), kind)
        except msgspec.ValidationError as error:
            return Failed("input", f"{node.uses}: {error}"[:2000])
        match inputs:
            case controls.Timer():
                return _wait(path, attempt, now, ForTime(), _moment(inputs, now))
            case controls.Approval():
                wait = ForApproval(inputs.text, inputs.on_timeout)
                return _wait(path, attempt, now, wait, _until(inputs.timeout, now))
            case controls.Event():
                return _event(node, path, attempt, inputs, scope, now, run.workspace_id)
            case controls.Items():
                return _map(path, inputs.items)
            case controls.Failure():
                return Failed("failed", inputs.message[:2000])
            case controls.Emission():
                return _emit(run, path, inputs)
            case controls.Run():
                return await self._child(run, path, attempt, inputs, now)
        raise AssertionError(f"no such control node: {node.uses}")

    async def _child(self, run: Held, path: str, attempt: int, inputs: controls.Run, now: float) -> Begun:
        if run.state.depth >= MOST_DEPTH:
            raise NodeError("input", f"expected runs that start each other at most {MOST_DEPTH} deep, got more")
        graph = await self._find(inputs.workflow, run.workspace_id)
        check_input(graph, inputs.input)
        id = derived_id(run.id, path, str(attempt), repr(run.state.since))  # a run that was reopened asks for another
        started = RunStarted(
            workflow=graph.name,
            workflow_hash=graph.hash.hex(),
            delivery_id=run.state.delivery_id,
            at=now,
            traceparent=run.traceparent,
            parent=run.id if inputs.wait else None,
            parent_node=path if inputs.wait else None,
            depth=run.state.depth + 1,
            input=inputs.input,
        )
        start = StartRun(
            NewRun(
                id=id,
                workflow=graph.name,
                workflow_hash=graph.hash,
                queue=graph.queue,
                started=encode(started)[1],
                leased=False,
                parent=run.id,
                delivery_id=run.state.delivery_id,
            )
        )
        if not inputs.wait:
            return Begun(Completed({"run_id": str(id)}), (start,))
        return Begun(NodeWaiting(path, attempt, now, ForChild(id, graph.name)), (start,))


def _wait(path: str, attempt: int, now: float, wait: Wait, until: float | None) -> Begun:
    return Begun(NodeWaiting(path, attempt, now, wait, until))


def _event(  # noqa: PLR0917
    node: GraphNode,
    path: str,
    attempt: int,
    inputs: controls.Event,
    scope: Mapping[str, Any],
    now: float,
    workspace_id: int,
) -> Begun:
    assert node.match is not None
    own = {**scope, "trigger": scope["event"]}
    key = key_of(node.match.own_side.evaluate(own), workspace_id)
    since = now - min(_duration(inputs.look_back), MOST_LOOK_BACK)
    wait = ForEvent(inputs.source, inputs.type, node.match.expression, key, since, inputs.on_timeout)
    until = _until(inputs.timeout, now)
    return Begun(
        NodeWaiting(path, attempt, now, wait, until),
        (Subscribe(path, inputs.source, node.match.expression, key, until),),
    )


def _map(path: str, items: Any) -> Begun:
    if not isinstance(items, list):
        raise NodeError("input", f"map: expected a list of items, got {type(items).__name__}")
    if len(items) > MOST_ITEMS:
        raise NodeError("input", f"map: expected at most {MOST_ITEMS:,} items, got {len(items):,}")
    return Begun(NodeMapped(path, len(items)))


def _emit(run: Held, path: str, inputs: controls.Emission) -> Begun:
    id = derived_id(run.id, path, "emit")
    metadata = {
        "source": EMITTED,
        "event_type": inputs.type,
        "content_type": "application/json",
        "run_id": str(run.id),
        "node": path,
        "traceparent": run.traceparent,
    }
    body = msgspec.json.encode(inputs.body)
    return Begun(
        Completed({"id": str(id)}), (Emit(id, EMITTED, inputs.type, msgspec.json.encode(metadata).decode(), body),)
    )


def _moment(inputs: controls.Timer, now: float) -> float:
    if (inputs.for_ is None) == (inputs.until is None):
        raise NodeError("input", "wait.timer: expected one of for and until")
    if inputs.for_ is not None:
        return now + _duration(inputs.for_)
    if isinstance(inputs.until, str):
        try:
            moment = datetime.fromisoformat(inputs.until)
        except ValueError:
            raise NodeError("input", f"wait.timer: expected until as RFC 3339, got {inputs.until!r}") from None
        if moment.tzinfo is None:
            raise NodeError("input", f"wait.timer: expected until with a time zone, got {inputs.until!r}")
        return moment.timestamp()
    return float(inputs.until or 0.0)


def _until(timeout: float | str | None, now: float) -> float | None:
    return None if timeout is None else now + _duration(timeout)


def _duration(value: float | str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise NodeError("input", f"expected a duration such as 30s, 5m or 24h: {error}") from None
    if not 0 <= seconds <= 10 * 366 * 86_400.0:
        raise NodeError("input", f"expected a duration from 0 to ten years, got {value!r}")
    return seconds
