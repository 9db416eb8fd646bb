"""The checker of a fault run: pure, and independent of the code that it judges.

It holds what senders were told (`Told`) and what a receiver was asked (`Call`) against the log, and finds

- lost: an acknowledged event that is not in the log, was not routed, or lacks a run; a run that did not complete; a
  version that is missing; a node that completed although no call of it was answered well;
- doubled: an event that is in the log twice; a run too many; a node that completed twice; a call with the key of a node
  that had completed; an event after a run's end (a zombie's); a head that is not its
  stream's; two runs of a lane at once;
- stuck: a run without an end; work items that are left; an event that was never acknowledged.

One kind of late call is no fault of the executor's and is counted apart: of a worker that was frozen while another
completed the node, and that let go, after it was thawed, of a request that it had begun before. No lease can call back
what is on its way; the idempotency key is what the other side knows it by.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from uuid import UUID

import msgspec

from tests.faultrun.log_rows import Head, Log, Row
from tests.faultrun.members import Frozen
from tests.faultrun.sink import Call

ENDS = {
    "run.completed": "completed",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
    "run.parked": "parked",
}
THAW = 1.0
"""Seconds after its thaw in which a frozen worker may let go of what it had begun."""


class Told(msgspec.Struct, frozen=True):
    """What the run knows from outside.

    Args:
        acknowledged: the id that was answered, by the event's own key.
        given_up: keys of events that were never acknowledged.
        calling: for each workflow that every event starts, its nodes that call the sink, always.
        frozen: when workers were frozen.
    """

    acknowledged: Mapping[str, UUID]
    given_up: Sequence[str]
    calling: Mapping[str, frozenset[str]]
    frozen: Sequence[Frozen] = ()


class Verdict(msgspec.Struct, frozen=True):
    """What was found, a sentence each. `renamed`: events acknowledged under another id than that of their first."""

    events: int
    runs: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    stuck: tuple[str, ...]
    late: int
    renamed: int

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.stuck)

    def line(self, faults: int) -> str:
        """The last line of a fault run."""
        return (
            f"faults: {self.events:,} events, {self.runs:,} runs, {faults:,} faults, "
            f"{len(self.lost)} lost, {len(self.doubled)} doubled, {len(self.stuck)} stuck"
        )


def key_of(run: UUID, node: str) -> str:
    """The idempotency key as it is documented: the run's id and a hash of the node's name."""
    return f"{run}-{hashlib.blake2b(node.encode(), digest_size=8).hexdigest()}"


def judge(log: Log, calls: Sequence[Call], told: Told) -> Verdict:
    """Everything that is wrong."""
    return _Judge(log, calls, told).verdict()


class _Judge:
    def __init__(self, log: Log, calls: Sequence[Call], told: Told) -> None:
        self.log, self.told = log, told
        self.lost: list[str] = []
        self.doubled: list[str] = []
        self.stuck: list[str] = []
        self.late = self.renamed = 0
        self.calls: defaultdict[str, list[Call]] = defaultdict(list)
        for call in calls:
            self.calls[call.key].append(call)
        self.streams: defaultdict[UUID, list[Row]] = defaultdict(list)
        for row in log.events:
            self.streams[row.stream].append(row)

    def verdict(self) -> Verdict:
        for stream, rows in self.streams.items():
            self._gapless(stream, rows)
        self._deliveries()
        for run, head in self.log.runs.items():
            self._run(run, head, self.streams.get(run, []))
        self._lanes()
        if self.log.work:
            self.stuck.append(f"{self.log.work} work items are left")
        self.stuck += [f"{key} was never acknowledged" for key in self.told.given_up]
        self._strangers()
        return Verdict(
            len(self.told.acknowledged),
            len(self.log.runs),
            tuple(self.lost),
            tuple(self.doubled),
            tuple(self.stuck),
            self.late,
            self.renamed,
        )

    def _gapless(self, stream: UUID, rows: Sequence[Row]) -> None:
        counts = Counter(row.version for row in rows)
        missing = set(range(max(counts) + 1)) - set(counts)
        self.lost += [f"{stream}: no version {version}" for version in sorted(missing)]
        self.doubled += [f"{stream}: version {number} twice" for number, count in counts.items() if count > 1]

    def _deliveries(self) -> None:
        """Every delivery was routed once; every acknowledged event is there once and has one run of each workflow."""
        found: defaultdict[str, list[UUID]] = defaultdict(list)
        for row in self.log.events:
            if row.type == "delivery.received":
                routed = sum(one.type == "delivery.routed" for one in self.streams[row.stream])
                self._once(routed, f"{row.body.get('key')} ({row.stream}) was routed")
                if "key" in row.body:
                    found[row.body["key"]].append(row.stream)
        runs = Counter((head.delivery_id, head.workflow) for head in self.log.runs.values() if not head.derived)
        for key, id in self.told.acknowledged.items():
            if not found[key]:
                self.lost.append(f"{key} was acknowledged as {id} and is not in the log")
            self.renamed += bool(found[key]) and id not in found[key]
        for key, ids in found.items():
            self.doubled += [f"{key} is in the log as {first} and {id}" for first, id in pairwise(ids)]
            for id in ids:
                for workflow in self.told.calling:
                    self._once(runs[id, workflow], f"{key} ({id}) has a run of {workflow}")

    def _once(self, count: int, what: str) -> None:
        if count == 0:
            self.lost.append(f"not so: {what}")
        elif count > 1:
            self.doubled.append(f"{count} times: {what}")

    def _run(self, run: UUID, head: Head, rows: Sequence[Row]) -> None:
        last = rows[-1] if rows else None
        if last is None or head.version != last.version:
            got = last and last.version
            self.doubled.append(f"run {run}: its head says version {head.version}, its stream {got}")
        if last is None or last.type not in ENDS:
            self.stuck.append(f"run {run} ({head.workflow}, {head.status}) ends with {last and last.type}")
        elif ENDS[last.type] != head.status:
            self.doubled.append(f"run {run}: its head says {head.status}, its stream {last.type}")
        elif head.status != "completed":
            self.lost.append(f"run {run} ({head.workflow}) {head.status}: {last.body.get('error', last.body)}")
        for before, after in pairwise(rows):
            if before.type in ENDS and after.type != "run.reopened" and not _asked(after):
                self.doubled.append(f"run {run}: {after.type} (version {after.version}) after {before.type}")
        self._nodes(run, head, rows)

    def _nodes(self, run: UUID, head: Head, rows: Sequence[Row]) -> None:
        completed: dict[str, float] = {}
        for row in rows:
            if row.type == "run.reopened":
                completed.clear()  # the nodes that it names, and all that need them, may run again
            elif row.type == "node.completed":
                node = row.body["node"]
                if node in completed:
                    self.doubled.append(f"run {run}: {node} completed twice")
                completed[node] = row.at
        for node, at in completed.items():
            calls = self.calls[key_of(run, node)]
            for call in calls:
                if call.at > at:
                    self._late(f"run {run}: {node} was called {call.at - at:.3f} s after it had completed", call.at, at)
            called = node in self.told.calling.get(head.workflow, ())
            if called and not any(call.status == 200 for call in calls):
                self.lost.append(f"run {run}: {node} completed without a call that was answered")

    def _lanes(self) -> None:
        """One run of a lane at a time."""
        lanes: defaultdict[UUID, list[tuple[float, float, UUID]]] = defaultdict(list)
        for run, head in self.log.runs.items():
            rows = self.streams.get(run, [])
            if head.lane is not None and rows and not any(row.type == "run.reopened" for row in rows):
                lanes[head.lane].append((rows[0].at, rows[-1].at, run))
        for runs in lanes.values():
            for (_, end, before), (start, _, after) in pairwise(sorted(runs)):
                if start < end:
                    self.doubled.append(
                        f"run {after} started {end - start:.3f} s before {before} of its lane had ended"
                    )

    def _late(self, what: str, called: float, completed: float) -> None:
        if any(one.since <= completed and one.until <= called <= one.until + THAW for one in self.told.frozen):
            self.late += 1
        else:
            self.doubled.append(what)

    def _strangers(self) -> None:
        """Calls of runs that the log does not know."""
        runs = set(map(str, self.log.runs))
        for key in self.calls:
            if key.rpartition("-")[0] not in runs:
                self.doubled.append(f"a call with key {key!r} is of no run in the log")


def _asked(row: Row) -> bool:
    """The inbox's fact that a person asked an ended run to go on; what it came to follows it."""
    return row.type == "signal.received"


def calling(documents: Iterable[Mapping[str, object]]) -> dict[str, frozenset[str]]:
    """`Told.calling` of these workflow documents: those with a trigger, and their unconditional `http.request`s."""
    found: dict[str, frozenset[str]] = {}
    for document in documents:
        nodes = document.get("nodes")
        if "on" in document and isinstance(nodes, dict):
            names = (name for name, node in nodes.items() if node["uses"] == "http.request")
            found[str(document["workflow"])] = frozenset(names)
    return found
