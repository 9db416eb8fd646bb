"""What is to be done next in a run: a pure function of its graph, its state and the time.

The engine asks again after every outcome. What settles by itself is noted first (skips, waits that are over, items of a
`map` that are done), because it makes other nodes settle; then come the nodes that can start; then, when nothing is
left, how the run ends. A run that has failed or was cancelled stops what is in flight, takes back in reverse order what
was done (`compensate`), runs its `on_error`, and ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import chain

import msgspec

from executor.workflow.facts import (
    ItemEnded,
    NodeCompleted,
    NodeFailed,
    NodeSkipped,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunFailing,
)
from executor.workflow.graph import Graph, GraphBody, GraphNode, Level
from executor.workflow.joins import Join, handled, look
from executor.workflow.paths import ON_ERROR, UNDO, item_prefix
from executor.workflow.state import Broken, Done, Items, NodeState, Retrying, RunState, Skipped, Waiting
from executor.workflow.waits import ForApproval, ForEvent, ForTime


class Note(msgspec.Struct, frozen=True):
    """Note these facts, then plan again. An ItemEnded without an error gets its item's output."""

    facts: tuple[NodeSkipped | NodeCompleted | NodeFailed | ItemEnded | RunFailing, ...]


class Gather(msgspec.Struct, frozen=True):
    """All items of this `map` are done: collect their outputs, note its completion, then plan again."""

    path: str


class Halt(msgspec.Struct, frozen=True):
    """Cancel every node that is in flight, then plan again."""


class Go(msgspec.Struct, frozen=True):
    """Start these nodes now; come back at `wake` (Unix seconds) at the latest, if it is not None.

    `waits`: whether some node waits for what others say, so that a signal is to be heard while nodes run.
    """

    start: tuple[str, ...]
    wake: float | None
    waits: bool = False


class End(msgspec.Struct, frozen=True):
    """The run is over. A RunCompleted gets the run's output."""

    fact: RunCompleted | RunFailed | RunCancelled


Plan = Note | Gather | Halt | Go | End


def plan(graph: Graph, state: RunState, now: float, running: Set[str] = frozenset()) -> Plan:
    """The next step.

    Args:
        now: Unix seconds by the database's clock.
        running: nodes in flight in this process.
    """
    deadline = state.since + graph.timeout if graph.timeout is not None else None
    if state.failing is not None:
        return _undo(graph, state, now, running)
    if state.cancelled is not None or (deadline is not None and now >= deadline):
        why = state.cancelled or f"the run's timeout of {graph.timeout:g} s has passed"
        return Halt() if running else _fail(graph, state, why)
    look = _Look(now, running)
    settled = look.level(graph.level, state.nodes, "")
    if look.facts:
        return Note(tuple(look.facts))
    if look.gather is not None:
        return Gather(look.gather)
    if not settled:
        wakes = look.wakes if deadline is None else [*look.wakes, deadline]
        return Go((), deadline) if state.paused else Go(tuple(look.start), min(wakes, default=None), look.waits)
    error = broken(graph.level, state.nodes)
    return End(RunCompleted()) if error is None else _fail(graph, state, error)


def broken(level: Level, nodes: dict[str, NodeState]) -> str | None:
    """The errors of the nodes that failed and that nobody handled; None where there are none."""
    errors = [
        node.error
        for name, node in nodes.items()
        if isinstance(node, Broken) and name in level.nodes and not handled(level, nodes, name)
    ]
    return "; ".join(errors)[:2000] if errors else None


class _Look:
    """One look at all that is not settled: what to note, to start, and when to look again."""

    def __init__(self, now: float, running: Set[str]) -> None:
        self.now = now
        self.running = running
        self.facts: list[NodeSkipped | NodeCompleted | NodeFailed | ItemEnded] = []
        self.start: list[str] = []
        self.wakes: list[float] = []
        self.gather: str | None = None
        self.waits = False

    def level(self, level: Level, nodes: dict[str, NodeState], prefix: str) -> bool:
        """Looks at the nodes of a level; whether all of them are settled."""
        settled = True
        for name in level.order:
            state = nodes.get(name)
            if isinstance(state, Done | Skipped | Broken):
                continue
            settled = False
            path = prefix + name
            if path in self.running:
                continue
            match state:
                case None:
                    self._untouched(level.nodes[name], nodes, path)
                case Retrying(at=at):
                    self._at(at, path)
                case Waiting():
                    self._waiting(state, path)
                case Items():
                    self._items(level.nodes[name].body, state, path)
        return settled

    def _untouched(self, node: GraphNode, nodes: dict[str, NodeState], path: str) -> None:
        match look(node, nodes):
            case Join.READY:
                self.start.append(path)
            case Join.WAIT:
                pass
            case Skipped(reason, failed):
                self.facts.append(NodeSkipped(path, reason, failed))

    def _at(self, at: float, path: str) -> None:
        if at <= self.now:
            self.start.append(path)
        else:
            self.wakes.append(at)

    def _waiting(self, waiting: Waiting, path: str) -> None:
        self.waits = True
        if waiting.until is None:
            return
        if waiting.until > self.now:
            self.wakes.append(waiting.until)
        else:
            self.facts.append(_over(waiting, path))

    def _items(self, body: GraphBody | None, items: Items, path: str) -> None:
        """Ends the items that are settled and starts others, `concurrency` at once, unless too many have failed."""
        assert body is not None
        stopped = body.failures is not None and len(items.failed) > body.failures
        flying = stopped and self._flying(path)  # what is in flight is waited for
        begun = dict(items.frames) if flying or not stopped else {}
        fresh = iter(()) if stopped else chain(reversed(items.again), range(items.next, items.count))
        while len(begun) < body.concurrency and (index := next(fresh, None)) is not None:
            begun[index] = {}
        for index, nodes in begun.items():
            before = len(self.start)
            if self.level(body.level, nodes, item_prefix(path, index)):
                self.facts.append(ItemEnded(path, index, error=broken(body.level, nodes)))
            elif stopped:
                del self.start[before:]
        if flying:
            return
        if not begun and stopped:
            text = f"{len(items.failed)} of {items.count} items failed; the first: {items.error}"
            self.facts.append(NodeFailed(path, 1, "item", text[:2000]))
        elif not begun:
            self.gather = path

    def _flying(self, path: str) -> bool:
        return any(name.startswith(f"{path}[") for name in self.running)


def _over(waiting: Waiting, path: str) -> NodeCompleted | NodeFailed:
    """What a wait whose time is up comes to."""
    match waiting.wait:
        case ForTime():
            return NodeCompleted(path, waiting.attempt, {"at": waiting.until})
        case ForEvent(on_timeout="complete") | ForApproval(on_timeout="complete"):
            return NodeCompleted(path, waiting.attempt, {"timed_out": True})
        case _:
            return NodeFailed(path, waiting.attempt, "timeout", "what it waited for did not come in time")


def _fail(graph: Graph, state: RunState, error: str) -> Note | End:
    if graph.undoes and any(_takes_back(graph, state)):
        return Note((RunFailing(error),))
    return _ended(state, error)


def _undo(graph: Graph, state: RunState, now: float, running: Set[str]) -> Plan:
    """Compensations one after the other, the last node's first; then `on_error`; then the end."""
    error = state.failing or ""
    for path in _takes_back(graph, state):
        match state.nodes.get(path):
            case None:
                return Go((), None) if path in running else Go((path,), None)
            case Retrying(at=at):
                if path in running:
                    return Go((), None)
                return Go((path,), None) if at <= now else Go((), at)
            case Broken(error=text):
                error += f"; {text}"
            case _:
                pass
    return _ended(state, error[:2000])


def _takes_back(graph: Graph, state: RunState) -> Iterator[str]:
    done = [(node.version, name) for name, node in state.nodes.items() if isinstance(node, Done)]
    for _, name in sorted(done, reverse=True):
        if name in graph.nodes and graph.nodes[name].undo is not None:
            yield name + UNDO
    if graph.on_error is not None and state.cancelled is None:
        yield ON_ERROR


def _ended(state: RunState, error: str) -> End:
    return End(RunCancelled(error) if state.cancelled is not None else RunFailed(error))
