"""A run carried through in memory, without an engine: the plan is asked, nodes end at random, facts are folded.

What must hold at every step is checked here, against rules that are written down once more and in another way than in
the code: see `Simulation.begins` and `Simulation.notes`.
"""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import msgspec

from events.errors import ConfigError
from executor.workflow.facts import (
    ItemEnded,
    NodeCompleted,
    NodeFailed,
    NodeMapped,
    NodeSkipped,
    NodeWaiting,
    RunCancelled,
    RunCancelling,
    RunCompleted,
    RunFact,
    RunFailed,
    RunFailing,
    RunPaused,
    RunReopened,
    RunResumed,
    RunStarted,
    SignalReceived,
)
from executor.workflow.graph import Graph, GraphNode, Level, compile_workflow, parse_workflow
from executor.workflow.paths import ON_ERROR, UNDO, steps
from executor.workflow.plan import End, Gather, Go, Halt, Note, plan
from executor.workflow.reopening import to_reset
from executor.workflow.state import Broken, Done, Items, NodeState, RunState, Skipped, Waiting, evolve
from executor.workflow.waits import ForApproval, ForChild, ForEvent, ForTime, Wait

RUN = UUID(int=9)
_WAITS: tuple[Wait, ...] = (
    ForTime(),
    ForApproval("?"),
    ForApproval("?", "complete"),
    ForEvent("s", "*", b"e" * 16, b"k" * 16, 0.0),
    ForChild(UUID(int=3), "w"),
)


def random_graph(random: Random) -> Graph:
    """A workflow of up to 7 nodes, with maps up to 2 deep, that the parser found right."""
    document: dict[str, Any] = {"workflow": "w", "nodes": _nodes(random, "n", 0)}
    if random.random() < 0.3:
        document["timeout"] = random.choice([5, 50])
    if random.random() < 0.3:
        document["on_error"] = {"uses": "x"}
    return compile_workflow(parse_workflow(document), b"h" * 32)


def _nodes(random: Random, prefix: str, level: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for index in range(random.randint(1, 7 if level == 0 else 3)):
        name = f"{prefix}{index}"
        node: dict[str, Any] = {"uses": random.choice(["x", "x", "x", "wait.timer"])}
        if node["uses"] == "wait.timer":
            node["with"] = {"for": 1}
        earlier = random.sample(list(made), random.randint(0, min(3, len(made))))
        if earlier and random.random() < 0.4:
            some = earlier[: random.randint(1, len(earlier))]
            node["needs"] = {"all": earlier[len(some) :], "any": some}
        else:
            node["needs"] = earlier
        if earlier and random.random() < 0.3:
            node["when"] = random.choice(["failed", "always"])
        elif isinstance(node["needs"], dict):
            node["needs"]["at_least"] = random.randint(1, len(node["needs"]["any"]))
        if level < 2 and random.random() < 0.25:
            node |= {"uses": "map", "with": {"items": []}, "nodes": _nodes(random, f"{name}x", level + 1)}
            node |= {"concurrency": random.randint(1, 3), "failures": random.choice([0, 0, 1, "any"])}
        if level == 0 and random.random() < 0.3:
            node["compensate"] = {"uses": "x"}
        made[name] = node
        if _never_runs(made):
            made[name] = {"uses": "x"}
    return made


def _never_runs(nodes: dict[str, Any]) -> bool:
    try:
        parse_workflow({"workflow": "w", "nodes": nodes})
    except ConfigError:
        return True
    return False


class Simulation:
    """One run. `trouble`: how likely a node fails, an attempt is repeated, a condition is false."""

    def __init__(self, graph: Graph, random: Random, trouble: float) -> None:
        self.graph = graph
        self.random = random
        self.trouble = trouble
        self.now = 1000.0
        self.seq = 0
        self.history: list[RunFact] = []
        self.state = RunState("", "", RUN, 0.0, 0.0)
        self.note(RunStarted("w", "00", RUN, self.now))
        self.running: set[str] = set()
        self.settled: set[str] = set()
        self.skipped_by_if: set[str] = set()
        self.ended: dict[str, list[int]] = {}
        self.undone: list[str] = []
        self.outputs: dict[str, list[Any]] = {}

    def note(self, *facts: RunFact) -> None:
        for fact in facts:
            self.state = evolve(self.state if self.history else None, fact)
            self.history.append(fact)

    def drive(self) -> RunFact:
        """The fact that the run ended with."""
        for _ in range(5_000):
            step = plan(self.graph, self.state, self.now, self.running)
            match step:
                case Note(facts):
                    for fact in facts:
                        self.notes(fact)
                case Gather(path):
                    self.gathers(path)
                case Halt():
                    assert self.running
                    self.running.clear()
                case End(fact):
                    assert not self.running
                    self.ends(fact)
                    self.note(fact)
                    return fact
                case Go():
                    self.goes(step)
        raise AssertionError("it never ends")

    def goes(self, go: Go) -> None:
        for path in go.start:
            self.begins(path)
        self.running |= set(go.start)
        self.items_at_once(self.graph.level, self.state.nodes, "")
        roll = self.random.random()
        if self.state.failing is None and roll < self.trouble * 0.1:
            self.seq += 1
            self.note(self.random.choice((RunPaused(self.seq, "p"), RunCancelling(self.seq, "p", "enough"))))
        elif self.state.paused and (roll < 0.3 or not self.running):
            self.seq += 1
            self.note(RunResumed(self.seq, "p"))
        elif self.running:
            path = self.random.choice(sorted(self.running))
            self.running.discard(path)
            self.outcome(path)
        elif (
            self.state.failing is None
            and (asked := [path for path, _ in self.waiting()])
            and (go.wake is None or self.random.random() < (0.5 if self.trouble else 1))
        ):
            self.answer(self.random.choice(asked))
        else:
            assert go.wake is not None, "nothing to do, nothing to wait for, and not at its end"
            assert go.wake > self.now
            self.now = go.wake

    def begins(self, path: str) -> None:
        """What must be so when a node starts."""
        assert path not in self.running
        assert path not in self.settled
        if path.endswith(UNDO) or path == ON_ERROR:
            assert self.state.failing is not None
            assert not self.running, "one after the other, and nothing else"
            if path not in self.undone:
                self.undone.append(path)
            return
        assert self.state.failing is None
        assert self.state.cancelled is None
        assert not self.state.paused
        node, nodes = self.graph.at(path), self.beside(path)
        done = {name for name, state in nodes.items() if isinstance(state, Done)}
        if node.when == "succeeded":
            assert done.issuperset(node.required)
            assert not node.any or len(done.intersection(node.any)) >= node.at_least
        else:
            assert all(isinstance(nodes.get(need), Done | Skipped | Broken) for need in node.needs)
            assert node.when == "always" or any(self.tainted(nodes.get(need)) for need in node.needs)

    def notes(self, fact: RunFact) -> None:
        """What must be so when something settles by itself."""
        match fact:
            case NodeSkipped():
                node, nodes = self.graph.at(fact.node), self.beside(fact.node)
                lost = {name for name, state in nodes.items() if isinstance(state, Skipped | Broken)}
                if node.when == "succeeded":
                    short = bool(node.any) and len(set(node.any) - lost) < node.at_least
                    assert short or lost.intersection(node.required)
                else:
                    assert node.when == "failed", "what runs always is never skipped"
                    assert not any(self.tainted(nodes.get(need)) for need in node.needs)
                self.settles(fact.node)
            case ItemEnded():
                items = self.at(fact.node)
                assert isinstance(items, Items)
                frame = items.frames.get(fact.index, {})
                level = self.level(fact.node)
                assert set(frame) == set(level.nodes), "an item ends when all its nodes are settled"
                unhandled = [name for name, state in frame.items() if isinstance(state, Broken)]
                unhandled = [name for name in unhandled if not self.caught(level, frame, name)]
                assert bool(fact.error) == bool(unhandled)
                assert fact.index not in self.ended.setdefault(fact.node, [])
                self.ended[fact.node].append(fact.index)
                fact = msgspec.structs.replace(fact, output=None if fact.error else f"item {fact.index}")
            case NodeFailed(kind="item"):
                items = self.at(fact.node)
                body = self.graph.at(fact.node).body
                assert isinstance(items, Items)
                assert body is not None
                assert body.failures is not None
                assert len(items.failed) > body.failures
                assert not any(path.startswith(fact.node + "[") for path in self.running)
                self.settles(fact.node)
            case NodeCompleted() | NodeFailed():
                assert isinstance(waiting := self.at(fact.node), Waiting)
                assert waiting.until is not None
                assert waiting.until <= self.now
                self.settles(fact.node)
            case RunFailing():
                assert not self.running
        self.note(fact)

    def gathers(self, path: str) -> None:
        """A map is done: all its items ended, in whatever order; the outputs are in theirs."""
        items, body = self.at(path), self.graph.at(path).body
        assert isinstance(items, Items)
        assert body is not None
        assert sorted(self.ended.get(path, [])) == list(range(items.count))
        assert body.failures is None or len(items.failed) <= body.failures
        found = {fact.index: fact for fact in self.history if isinstance(fact, ItemEnded) and fact.node == path}
        self.settles(path)
        self.note(NodeCompleted(path, 1, [found[index].output for index in range(items.count)]))

    def ends(self, fact: RunFact) -> None:
        nodes, level = self.state.nodes, self.graph.level
        undo = [name for name, state in sorted(nodes.items(), key=_version, reverse=True) if isinstance(state, Done)]
        expected = [name + UNDO for name in undo if name in level.nodes and level.nodes[name].undo is not None]
        if isinstance(fact, RunCompleted):
            assert self.state.failing is None
            assert self.state.cancelled is None
            assert set(level.nodes) == set(nodes)
            assert all(self.caught(level, nodes, name) for name, state in nodes.items() if isinstance(state, Broken))
            for name, node in level.nodes.items():
                assert node.when != "always" or name in self.skipped_by_if or isinstance(nodes[name], Done | Broken)
            return
        assert isinstance(fact, RunCancelled if self.state.cancelled is not None else RunFailed)
        if self.graph.on_error is not None and self.state.cancelled is None:
            expected.append(ON_ERROR)
        assert self.undone == expected, "in the reverse order of completion, then on_error"

    def reopen(self) -> None:
        """A person has the ended run go on; from now on all goes well."""
        self.seq += 1
        nodes = to_reset(self.graph, self.state, None)
        self.note(RunReopened(self.seq, "p", self.now, nodes))
        self.trouble = 0.0
        self.undone.clear()
        self.settled = {path for path in self.settled if isinstance(self.at(path), Done | Skipped)}
        for path, ended in self.ended.items():
            items = self.at(path)
            left = {*items.frames, *items.again} if isinstance(items, Items) else set(ended)
            self.ended[path] = [at for at in ended if at not in left]

    def outcome(self, path: str) -> None:
        """What an attempt comes to."""
        before = None if path.endswith(UNDO) or path == ON_ERROR else self.at(path)
        attempt = getattr(before, "attempt", 0) + 1
        node, roll = self.graph.at(path), self.random.random()
        if roll < self.trouble * 0.3 and attempt < 3:
            self.note(NodeFailed(path, attempt, "error", "no", self.now + self.random.choice([0, 1, 9])))
        elif roll < self.trouble * 0.6:
            self.settles(path)
            self.note(NodeFailed(path, attempt, "error", "no"))
        elif roll < self.trouble * 0.7 and UNDO not in path and path != ON_ERROR:
            self.skipped_by_if.add(path)
            self.settles(path)
            self.note(NodeSkipped(path, "if"))
        elif node.uses == "map":
            self.note(NodeMapped(path, self.random.randint(0, 5)))
        elif node.uses == "wait.timer":
            wait = self.random.choice(_WAITS)
            until = (
                self.now + 3
                if isinstance(wait, ForTime) or self.random.random() < (0.5 if self.trouble else 1)
                else None
            )
            self.note(NodeWaiting(path, attempt, self.now, wait, until))
        else:
            self.settles(path)
            self.note(NodeCompleted(path, attempt, {"id": path}))

    def answer(self, path: str) -> None:
        """Somebody says what a node waits for. (Once a run fails, what is done last is not what was there first.)"""
        self.seq += 1
        self.settles(path)
        self.note(SignalReceived(self.seq, "answer", path), NodeCompleted(path, 1, {"id": path}))

    def settles(self, path: str) -> None:
        assert path not in self.settled, "every node settles once"
        self.settled.add(path)

    def waiting(self) -> list[tuple[str, Waiting]]:
        found: list[tuple[str, Waiting]] = []

        def walk(nodes: dict[str, NodeState], prefix: str) -> None:
            for name, state in nodes.items():
                if isinstance(state, Waiting) and not isinstance(state.wait, ForTime):
                    found.append((prefix + name, state))
                elif isinstance(state, Items):
                    for index, frame in state.frames.items():
                        walk(frame, f"{prefix}{name}[{index}].")

        walk(self.state.nodes, "")
        return found

    def items_at_once(self, level: Level, nodes: dict[str, NodeState], prefix: str) -> None:
        for name, state in nodes.items():
            if isinstance(state, Items):
                body, path = self.graph.at(prefix + name).body, prefix + name
                assert body is not None
                flying = {int(one[len(path) + 1 :].split("]")[0]) for one in self.running if one.startswith(path + "[")}
                assert len(flying | set(state.frames)) <= body.concurrency
                for index, frame in state.frames.items():
                    self.items_at_once(body.level, frame, f"{path}[{index}].")

    def beside(self, path: str) -> dict[str, NodeState]:
        """The states of the nodes beside one, without changing anything."""
        nodes = self.state.nodes
        for name, index in steps(path)[0]:
            items = nodes.get(name)
            nodes = items.frames.get(index, {}) if isinstance(items, Items) else {}
        return nodes

    def at(self, path: str) -> NodeState | None:
        return self.beside(path).get(steps(path)[1])

    def level(self, path: str) -> Level:
        body = self.graph.at(path).body
        assert body is not None
        return body.level

    def tainted(self, state: NodeState | None) -> bool:
        return isinstance(state, Broken) or (isinstance(state, Skipped) and state.failed)

    def caught(self, level: Level, nodes: dict[str, NodeState], name: str) -> bool:
        """Whether a node that ran because something failed stands behind this one."""

        def behind(node: GraphNode) -> bool:
            return any(need == name or behind(level.nodes[need]) for need in node.needs)

        return any(
            node.when == "failed" and isinstance(nodes.get(other), Done) and behind(node)
            for other, node in level.nodes.items()
        )


def _version(entry: tuple[str, NodeState]) -> int:
    return entry[1].version if isinstance(entry[1], Done) else -1
